"""Activity of items and users: a sparse cumulative daily log, its as-of look-ups, and the features made of it.

A row (id, ds) stands only for days on which the id was active and counts everything up to and including ds. So the
state as of a day is one row, and the state of a window of days is the difference of two.
"""

from __future__ import annotations

from datetime import date

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from akt_spark.config import FeaturesConfig
from akt_spark.features.follow import follow
from akt_spark.features.log import known_of
from akt_spark.lake import BuiltOn
from akt_spark.stage import Context, Outcome

ENTITIES = ("item", "user")
COUNTS = {"impressions": "impression", "clicks": "click", "carts": "cart", "purchases": "purchase"}
ACTIVITY_FEATURES = ("log1p_clicks", "log1p_impressions", "log1p_carts_purchases", "smoothed_ctr", "log1p_age_days")


def run(ctx: Context) -> Outcome:
    """Brings ``features.item_activity`` and ``features.user_activity`` up to ``ctx.ds``.

    A night appends the day's active ids; late events change the rows of their ids from their day on, by a merge.
    Shuffles of a night: the new events by id and day, then states and counts of their ids by id. The log itself is read
    once an entity, filtered by the active ids, and not shuffled while they are few enough to broadcast.

    Raises:
        MissingInput: when ``bronze.events`` does not exist or is empty.
        DataError: when all its events are later than ``ctx.ds``.
    """
    outcome = Outcome()
    for entity in ENTITIES:
        _follow(ctx, entity, outcome)
    return outcome


def _follow(ctx: Context, entity: str, outcome: Outcome) -> None:
    lake, table = ctx.lake, f"features.{entity}_activity"
    rows_of, events_of = 0, 0

    def rebuild(events: DataFrame, on: BuiltOn) -> None:
        nonlocal rows_of, events_of
        lake.overwrite(table, activity_log(daily_counts(known_of(ctx, entity, events), entity), entity), on=on)
        rows_of, events_of = lake.read(table).count(), events.count()

    def extend(events: DataFrame, on: BuiltOn, until: date) -> None:
        nonlocal rows_of, events_of
        daily = daily_counts(events, entity).persist()
        try:
            rows_of, events_of, first = daily.agg(
                F.count("*"), F.sum(sum((F.col(name) for name in COUNTS), F.lit(0))), F.min("ds")
            ).head()
            log = lake.read(table)
            if not rows_of:
                return
            if first > until:
                lake.append(table, extended_log(log, daily, entity), on=on)
            else:
                lake.merge(table, extended_log(log, daily, entity, late_since=first), on=on)
        finally:
            daily.unpersist()

    how = follow(ctx, table, list(COUNTS.items()), rebuild, extend)
    outcome.rows_in = max(outcome.rows_in, events_of or 0)
    outcome.rows_out += rows_of
    outcome.notes.append(f"{how}; {rows_of:,} rows ({entity}, day) from {events_of or 0:,} events")


def daily_counts(events: DataFrame, entity: str) -> DataFrame:
    """Counts of every item or every user a day. One shuffle, after partial aggregation.

    Returns:
        id, ds, impressions, clicks, carts, purchases.
    """
    counts = [F.count_if(F.col("event_type") == kind).alias(name) for name, kind in COUNTS.items()]
    return events.groupBy(F.col(f"{entity}_id").alias("id"), "ds").agg(*counts)


def activity_log(daily: DataFrame, entity: str) -> DataFrame:
    """Cumulative log of one entity: the columns of ``features.<entity>_activity``. One shuffle, by id.

    Args:
        daily: `daily_counts` of all events.
        entity: ``item`` or ``user``.
    """
    days = daily.withColumns({"active_days": F.lit(1), "first_ds": F.col("ds")})
    return days.select(F.col("id").alias(f"{entity}_id"), *_cumulative())


def extended_log(log: DataFrame, daily: DataFrame, entity: str, late_since: date | None = None) -> DataFrame:
    """The rows that new events add to a cumulative log, or change in it: those of their ids from their first day on.

    An id's last row before that day stands for all that came before it. Rows from that day on, which only late events
    find, are turned back into counts of a day, and all are summed again. Shuffles: by id and again by id; with late
    events two more.

    Args:
        log: rows of ``features.<entity>_activity``.
        daily: `daily_counts` of events that the log does not hold.
        entity: ``item`` or ``user``.
        late_since: the first day of ``daily``, when the log has rows from that day on.
    """
    since = daily.groupBy("id").agg(F.min("ds").alias("since"))
    touched = log.withColumnRenamed(f"{entity}_id", "id").join(since, on="id", how="inner")
    state = ("ds", *COUNTS, "active_days", "first_ds")
    before = touched.where(F.col("ds") < F.col("since")).groupBy("id", "since")
    opening = before.agg(F.max_by(F.struct(*state), "ds").alias("last")).select("id", "since", "last.*")
    fresh = daily.join(since, on="id", how="inner").withColumns({"active_days": F.lit(1), "first_ds": F.col("ds")})
    days = opening.unionByName(fresh)
    if late_since is not None:
        later = touched.where((F.col("ds") >= F.lit(late_since)) & (F.col("ds") >= F.col("since")))
        days = _summed(_by_day(opening.unionByName(later.select("id", "since", *state))).unionByName(fresh))
    rows = days.select(F.col("id").alias(f"{entity}_id"), *_cumulative(), "since")
    return rows.where(F.col("ds") >= F.col("since")).drop("since")


def _by_day(rows: DataFrame) -> DataFrame:
    """Cumulative rows as counts of a day; an id's row before ``since`` goes on standing for all days up to its own."""
    by_day = Window.partitionBy("id").orderBy("ds")
    is_opening = F.col("ds") < F.col("since")
    return rows.withColumns(
        {name: F.col(name) - F.coalesce(F.lag(name).over(by_day), F.lit(0)) for name in COUNTS}
        | {"active_days": F.when(is_opening, F.col("active_days")).otherwise(1)}
        | {"first_ds": F.when(is_opening, F.col("first_ds")).otherwise(F.col("ds"))}
    )


def _summed(days: DataFrame) -> DataFrame:
    """One row a day of an id."""
    sums = (F.sum(name).alias(name) for name in COUNTS)
    state = (F.max("active_days").alias("active_days"), F.min("first_ds").alias("first_ds"))
    return days.groupBy("id", "since", "ds").agg(*sums, *state)


def _cumulative() -> list[Column]:
    """Columns of a cumulative log but its id, from rows of (id, ds) with counts, ``active_days`` and ``first_ds``."""
    up_to_day = Window.partitionBy("id").orderBy("ds").rowsBetween(Window.unboundedPreceding, Window.currentRow)
    sums = [F.sum(name).over(up_to_day).alias(name) for name in (*COUNTS, "active_days")]
    return [F.col("ds"), *sums, F.min("first_ds").over(up_to_day).alias("first_ds"), F.col("ds").alias("last_ds")]


def as_of(activity: DataFrame, day: date) -> DataFrame:
    """The last row of every id with ``ds <= day``; ids that were not active by then have none. One shuffle."""
    id_column, *state = activity.columns
    last = F.max_by(F.struct(*state), F.col("ds")).alias("last")
    return activity.where(F.col("ds") <= F.lit(day)).groupBy(id_column).agg(last).select(id_column, "last.*")


def strictly_before(asked: DataFrame, log: DataFrame, into: str) -> DataFrame:
    """Adds to every (id, day) what was known of the id from days strictly before.

    Pairs and log flow through one window by id. Both have at most a row a day of an id, so no id is heavy, whatever its
    events; what has events then joins by id and day. One shuffle, of pairs and log by id.

    Args:
        asked: distinct pairs of an id column and ``ds``, and any other columns.
        log: the same id column first, ``ds``, and other columns: a row counts from the day after its own, until the
            id's next one.
        into: name of the added column, a struct of the log's columns but the id; null without an earlier day.
    """
    id_column, *state = log.columns
    known = log.select(id_column, F.date_add("ds", 1).alias("ds"), F.struct(*state).alias(into))
    pairs = asked.withColumn("_asked", F.lit(True))
    so_far = Window.partitionBy(id_column).orderBy(
        "ds", F.asc_nulls_first("_asked")
    )  # known by a day, then asked on it
    so_far = so_far.rowsBetween(Window.unboundedPreceding, Window.currentRow)
    joined = known.unionByName(pairs, allowMissingColumns=True)
    joined = joined.withColumn(into, F.last(into, ignorenulls=True).over(so_far))
    return joined.where("_asked").select(*asked.columns, into)


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
