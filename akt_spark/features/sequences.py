"""The newest events of every user, as analysts and the user model read them."""

from __future__ import annotations

from datetime import date

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from akt_spark.config import FeaturesConfig
from akt_spark.features.events import events_until
from akt_spark.stage import Context, Outcome

# Among equal times an event without an order counts as the newest: histories.py numbers events in the same order.
NEWEST_FIRST = (F.desc, "event_time"), (F.desc_nulls_first, "event_order"), (F.desc, "event_id")


def run(ctx: Context) -> Outcome:
    """Writes ``features.user_sequences`` from all days up to ``ctx.ds``."""
    features = ctx.config.features
    events = events_until(ctx.lake, ctx.ds)
    ctx.lake.overwrite("features.user_sequences", user_sequences(events, ctx.ds, features))
    length = F.col("length")
    done = ctx.lake.read("features.user_sequences").agg(
        F.count("*").alias("users"),
        F.coalesce(F.median(length), F.lit(0.0)).alias("median"),
        F.count_if(length == features.sequence_length).alias("full"),
    )
    row = done.head()
    kinds = ", ".join(features.history_events)
    return Outcome(
        rows_in=events.count(),
        rows_out=row["users"],
        notes=[
            f"users with {kinds}: {row['users']:,}; median length {row['median']:.0f}, "
            f"{row['full']:,} at the limit of {features.sequence_length}"
        ],
    )


def user_sequences(events: DataFrame, as_of: date, config: FeaturesConfig) -> DataFrame:
    """The newest ``sequence_length`` events of every user, newest first: the columns of ``features.user_sequences``.

    The rows are ranked and cut before they are collected, so a user with a huge history costs no huge array; Spark
    also cuts before the shuffle. One shuffle, by user.
    """
    newest_first = Window.partitionBy("user_id").orderBy(*(direction(name) for direction, name in NEWEST_FIRST))
    newest = (
        events.where(F.col("event_type").isin(config.history_events))
        .withColumn("rank", F.row_number().over(newest_first))
        .where(F.col("rank") <= config.sequence_length)
    )
    event = F.struct("rank", "item_id", "event_type", "event_time")
    return (
        newest.groupBy("user_id")
        .agg(F.array_sort(F.collect_list(event)).alias("events"))
        .select(
            "user_id",
            F.lit(as_of).alias("as_of"),
            F.size("events").alias("length"),
            F.col("events.item_id").alias("items"),
            F.col("events.event_type").alias("event_types"),
            F.col("events.event_time").alias("event_times"),
        )
    )
