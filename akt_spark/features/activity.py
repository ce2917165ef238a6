"""Activity of items and users: a sparse cumulative daily log, its as-of look-ups, and the features made of it.

A row (id, ds) stands only for days on which the id was active and counts everything up to and including ds. So the
state as of a day is one row, and the state of a window of days is the difference of two.
"""

from __future__ import annotations

from datetime import date

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from akt_spark.config import FeaturesConfig
from akt_spark.features.events import events_until
from akt_spark.stage import Context, Outcome

ENTITIES = ("item", "user")
COUNTS = {"impressions": "impression", "clicks": "click", "carts": "cart", "purchases": "purchase"}
ACTIVITY_FEATURES = ("log1p_clicks", "log1p_impressions", "log1p_carts_purchases", "smoothed_ctr", "log1p_age_days")


def run(ctx: Context) -> Outcome:
    """Writes ``features.item_activity`` and ``features.user_activity`` from all days up to ``ctx.ds``."""
    events = events_until(ctx.lake, ctx.ds)
    daily = daily_counts(events).persist()
    try:
        for entity in ENTITIES:
            ctx.lake.overwrite(f"features.{entity}_activity", activity_log(daily, entity))
        summary = {row["entity"]: row for row in _summary(daily).collect()}
    finally:
        daily.unpersist()
    return Outcome(
        rows_in=summary["item"]["events"],
        rows_out=sum(row["rows"] for row in summary.values()),
        notes=[
            f"{entity}s: {row['ids']:,} active on {row['first']} to {row['last']}, {row['rows']:,} rows (id, day)"
            for entity, row in sorted(summary.items())
        ],
    )


def daily_counts(events: DataFrame) -> DataFrame:
    """Counts of every item and every user a day, from one scan.

    One shuffle, after partial aggregation.

    Returns:
        entity, id, ds, impressions, clicks, carts, purchases.
    """
    ids = [F.struct(F.lit(entity).alias("entity"), F.col(f"{entity}_id").alias("id")) for entity in ENTITIES]
    counts = [F.count_if(F.col("event_type") == kind).alias(name) for name, kind in COUNTS.items()]
    return events.select(F.inline(F.array(*ids)), "ds", "event_type").groupBy("entity", "id", "ds").agg(*counts)


def activity_log(daily: DataFrame, entity: str) -> DataFrame:
    """Cumulative log of one entity: the columns of ``features.<entity>_activity``. One shuffle, by id."""
    up_to_day = Window.partitionBy("id").orderBy("ds").rowsBetween(Window.unboundedPreceding, Window.currentRow)
    return daily.where(F.col("entity") == entity).select(
        F.col("id").alias(f"{entity}_id"),
        "ds",
        *(F.sum(name).over(up_to_day).alias(name) for name in COUNTS),
        F.count("*").over(up_to_day).alias("active_days"),
        F.min("ds").over(up_to_day).alias("first_ds"),
        F.col("ds").alias("last_ds"),
    )


def as_of(activity: DataFrame, day: date) -> DataFrame:
    """The last row of every id with ``ds <= day``; ids that were not active by then have none. One shuffle."""
    id_column, *state = activity.columns
    last = F.max_by(F.struct(*state), F.col("ds")).alias("last")
    return activity.where(F.col("ds") <= F.lit(day)).groupBy(id_column).agg(last).select(id_column, "last.*")


def join_strictly_before(probes: DataFrame, activity: DataFrame, day: str, into: str) -> DataFrame:
    """Adds to every probe the state of its id from days strictly before its own day.

    Probes and activity rows flow through one window by id, so the cost is linear: one shuffle of both, and no
    id-join that multiplies days with probes. A hot id is sorted in one task, which spills; keep probes narrow.

    Args:
        probes: any rows with the id column of ``activity`` (its first column) and a date.
        activity: a cumulative log.
        day: name of the date column of ``probes``.
        into: name of the added column, a struct of the activity columns; null without an earlier day.
    """
    id_column, *state = activity.columns
    known = activity.select(id_column, F.date_add("ds", 1).alias("_day"), F.struct(*state).alias("_state"))
    asked = probes.select(id_column, F.col(day).alias("_day"), F.struct(*probes.columns).alias("_probe"))
    is_probe = F.col("_probe").isNotNull()
    so_far = Window.partitionBy(id_column).orderBy("_day", is_probe)  # what is known on a day comes before its probes
    so_far = so_far.rowsBetween(Window.unboundedPreceding, Window.currentRow)
    joined = known.unionByName(asked, allowMissingColumns=True)
    joined = joined.withColumn(into, F.last("_state", ignorenulls=True).over(so_far))
    return joined.where(is_probe).select("_probe.*", into)


def activity_vector(activity: Column, day: Column, config: FeaturesConfig) -> Column:
    """Features of one id (method.md 5.2), ``ARRAY<FLOAT>`` of five in the order of ``ACTIVITY_FEATURES``.

    Args:
        activity: struct of the activity columns; null for an id without history, which gives zeros and the prior.
        day: the day on which the features are used; age counts days from the first active day to it.
        config: the CTR prior and its weight in impressions.
    """
    count = {name: F.coalesce(activity[name], F.lit(0)) for name in COUNTS}
    prior_clicks = config.ctr_prior * config.ctr_prior_weight
    smoothed_ctr = (count["clicks"] + prior_clicks) / (count["impressions"] + config.ctr_prior_weight)
    age = F.coalesce(F.date_diff(day, activity["first_ds"]), F.lit(0))
    return F.array(
        F.log1p(count["clicks"]),
        F.log1p(count["impressions"]),
        F.log1p(count["carts"] + count["purchases"]),
        smoothed_ctr,
        F.log1p(age),
    ).cast("array<float>")


def _summary(daily: DataFrame) -> DataFrame:
    return daily.groupBy("entity").agg(
        F.count("*").alias("rows"),
        F.count_distinct("id").alias("ids"),
        F.sum(sum((F.col(name) for name in COUNTS), F.lit(0))).alias("events"),
        F.min("ds").alias("first"),
        F.max("ds").alias("last"),
    )
