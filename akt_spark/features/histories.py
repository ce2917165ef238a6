"""Point-in-time histories: what a user had done strictly before each sample.

A history is what the user did earlier on the day of the sample, and then the newest of the days before. The first is
sorted by user and day, the second is a log by day like that of activity: so no task ever holds all events of a user.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from akt_spark.features.activity import strictly_before
from akt_spark.features.events import FIRST, LAST, position


def with_histories(samples: DataFrame, positives: DataFrame, days: DataFrame, length: int) -> DataFrame:
    """Adds the newest ``length`` positives of the user strictly before each sample.

    Strictly before means an earlier time, or at an equal time a smaller ``event_order`` where both events have one;
    equal times are excluded otherwise. Shuffles: samples with positives by user and day; of positives alone one by user
    and day and, as few rows, one by user; ``days`` by user, and by user and day.

    Args:
        samples: user_id, ds, event_time, event_order and any other columns.
        positives: user_id, ds, event_time, event_order, event_id and item_idx (not null), one row an event.
        days: user_id and ds, every pair of ``samples`` once, and any other columns, which every sample gets too.
        length: entries kept.

    Returns:
        The columns of ``samples`` and ``days``, and ``history`` ARRAY<INT>, newest first, unpadded.
    """
    known = strictly_before(days, newest_by_day(positives, length), into="earlier")
    history = F.concat("today", F.coalesce("earlier.newest", F.array().cast("array<int>")))
    joined = _with_today(samples, positives, length).join(known, on=["user_id", "ds"], how="inner")
    return joined.withColumn("history", F.slice(history, 1, length)).drop("today", "earlier")


def newest_by_day(positives: DataFrame, length: int) -> DataFrame:
    """The newest ``length`` positives of every user as of every day on which there was one.

    Returns:
        user_id, ds, newest ARRAY<INT> of item_idx, newest first.
    """
    newest_first = Window.partitionBy("user_id", "ds").orderBy(
        F.desc("event_time"), F.desc("position"), F.desc("event_id")
    )
    of_day = (
        positives.withColumn("position", position(LAST))
        .withColumn("rank", F.row_number().over(newest_first))
        .where(F.col("rank") <= length)
        .groupBy("user_id", "ds")
        .agg(F.sort_array(F.collect_list(F.struct("rank", "item_idx")))["item_idx"].alias("items"))
    )
    # every one of these days has a positive, so the newest `length` of all lie in the last `length` days
    days = Window.partitionBy("user_id").orderBy("ds").rowsBetween(1 - length, Window.currentRow)
    items = F.flatten(F.reverse(F.collect_list("items").over(days)))
    return of_day.select("user_id", "ds", F.slice(items, 1, length).alias("newest"))


def _with_today(samples: DataFrame, positives: DataFrame, length: int) -> DataFrame:
    """Adds ``today``: the newest positives of the user on the day of each sample, strictly before it.

    Samples and positives flow through one sort: a sample learns how many positives of its day lie before it
    (``number``), and the window of the ``length`` numbers ending there is what it sees.
    """
    # At equal times: samples without an order stand before every positive, positives without one behind every sample,
    # and at an equal order the sample comes first. So "strictly before" is a prefix of the sorted rows.
    place = ["user_id", "ds", "event_time"]
    rest = F.struct(*[name for name in samples.columns if name not in place])
    asked = samples.select(*place, position(FIRST).alias("position"), rest.alias("sample"))
    known = positives.select(*place, position(LAST).alias("position"), "event_id", "item_idx")
    is_sample = F.col("sample").isNotNull()
    by_time = Window.partitionBy("user_id", "ds").orderBy("event_time", "position", F.desc(is_sample), "event_id")
    before = by_time.rowsBetween(Window.unboundedPreceding, Window.currentRow)
    newest = Window.partitionBy("user_id", "ds").orderBy("number").rangeBetween(1 - length, Window.currentRow)
    return (
        asked.unionByName(known, allowMissingColumns=True)
        .withColumn("number", F.count("item_idx").over(before))
        .withColumn("today", F.reverse(F.collect_list("item_idx").over(newest)))
        .where(is_sample)
        .select(*place, "sample.*", "today")
    )


def padded(history: str, length: int) -> Column:
    """An array of exactly ``length`` entries: the history, then zeros."""
    return F.slice(F.concat(F.col(history), F.array_repeat(F.lit(0), length)), 1, length)
