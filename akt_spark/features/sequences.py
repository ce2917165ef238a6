"""The newest events of every user, as analysts and the user model read them."""

from __future__ import annotations

from datetime import date

from pyspark.sql import Column, DataFrame, Observation, Window
from pyspark.sql import functions as F

from akt_spark.config import FeaturesConfig
from akt_spark.features.events import LAST, position
from akt_spark.features.follow import follow
from akt_spark.features.log import known_of
from akt_spark.lake import BuiltOn
from akt_spark.stage import Context, Outcome

TABLE = "features.user_sequences"
ARRAYS = {"event_times": "event_time", "event_ids": "event_id", "items": "item_id", "event_types": "event_type"}


def run(ctx: Context) -> Outcome:
    """Brings ``features.user_sequences`` up to ``ctx.ds``; a night merges the users with new events.

    Raises:
        MissingInput: when ``bronze.events`` does not exist or is empty.
        DataError: when all its events are later than ``ctx.ds``.
    """
    features, lake, outcome = ctx.config.features, ctx.lake, Outcome()

    def rebuild(events: DataFrame, on: BuiltOn) -> None:
        lake.overwrite(TABLE, user_sequences(known_of(ctx, "user", events), features), on=on)
        outcome.rows_in, outcome.rows_out = events.count(), lake.read(TABLE).count()

    def extend(events: DataFrame, on: BuiltOn, _: date) -> None:
        read = Observation()
        newest = user_sequences(events.observe(read, F.count("*").alias("rows")), features).persist()
        try:
            outcome.rows_out = newest.count()
            outcome.rows_in = read.get["rows"]
            if outcome.rows_out:
                lake.merge(TABLE, newest, on=on, update=merged(features.sequence_length))
        finally:
            newest.unpersist()

    parameters = [features.sequence_length, features.history_events]
    how = follow(ctx, TABLE, parameters, rebuild, extend)
    kinds = ", ".join(features.history_events)
    outcome.notes.append(f"{how}; {outcome.rows_out:,} users with new {kinds}")
    return outcome


def user_sequences(events: DataFrame, config: FeaturesConfig) -> DataFrame:
    """The newest ``sequence_length`` events of every user, newest first: the columns of ``features.user_sequences``.

    The rows are ranked and cut before they are collected, so a user with a huge history costs no huge array; Spark
    also cuts before the shuffle, in every task. One shuffle, by user.
    """
    newest_first = Window.partitionBy("user_id").orderBy(F.desc("event_time"), F.desc("position"), F.desc("event_id"))
    newest = (
        events.where(F.col("event_type").isin(config.history_events))
        .withColumn("position", position(LAST))
        .withColumn("rank", F.row_number().over(newest_first))
        .where(F.col("rank") <= config.sequence_length)
    )
    event = F.struct("event_time", "position", "event_id", "item_id", "event_type")
    collected = newest.groupBy("user_id").agg(F.sort_array(F.collect_list(event), asc=False).alias("events"))
    return collected.select("user_id", *(column.alias(name) for name, column in _columns(F.col("events")).items()))


def merged(length: int) -> dict[str, Column]:
    """Columns of a row of ``features.user_sequences`` (``old``) when new events of its user (``new``, a row too) come.

    The newest of both, whatever the order in which nights and late events come.
    """
    both = F.concat(_events("old"), _events("new"))
    return _columns(F.slice(F.sort_array(both, asc=False), 1, length))


def _columns(events: Column) -> dict[str, Column]:
    """Columns of the table from an array of (event_time, position, event_id, item_id, event_type), newest first."""
    return {
        "as_of": F.to_date(F.get(events["event_time"], F.lit(0))),
        "length": F.size(events),
        **{name: events[field] for name, field in ARRAYS.items()},
        "event_orders": F.transform(events["position"], lambda place: F.nullif(place, F.lit(LAST))),
    }


def _events(row: str) -> Column:
    """The array that `_columns` takes apart, of a row of the table; sorting it puts the oldest first.

    Among equal times an event without an order counts as the newest: histories.py numbers events in the same order.
    """
    zipped = F.arrays_zip(*(F.col(f"{row}.{name}").alias(name) for name in (*ARRAYS, "event_orders")))
    return F.transform(
        zipped,
        lambda event: F.struct(
            event["event_times"].alias("event_time"),
            F.coalesce(event["event_orders"], F.lit(LAST)).alias("position"),
            event["event_ids"].alias("event_id"),
            event["items"].alias("item_id"),
            event["event_types"].alias("event_type"),
        ),
    )
