"""Point-in-time histories: what a user had done strictly before each sample."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from akt_spark.features.events import FIRST, LAST, position


def with_histories(samples: DataFrame, positives: DataFrame, length: int) -> DataFrame:
    """Adds the newest ``length`` positives of the user strictly before each sample.

    Strictly before means an earlier time, or at an equal time a smaller ``event_order`` where both events have one;
    equal times are excluded otherwise. Samples and positives flow through one sort by user: a sample learns how many
    positives lie before it (``number``), and the window of the ``length`` numbers ending there is its history. One
    shuffle, by user; cost linear in samples times ``length``; a heavy user is one task, which spills.

    Args:
        samples: user_id, event_time, event_order and any other columns.
        positives: user_id, event_time, event_order, event_id and item_idx (not null), one row an event.
        length: entries kept.

    Returns:
        The columns of ``samples``, and ``history`` ARRAY<INT>, newest first, unpadded.
    """
    # At equal times: samples without an order stand before every positive, positives without one behind every sample,
    # and at an equal order the sample comes first. So "strictly before" is a prefix of the sorted rows.
    asked = samples.select(
        "user_id", "event_time", position(FIRST).alias("position"), F.struct(*samples.columns).alias("sample")
    )
    known = positives.select("user_id", "event_time", position(LAST).alias("position"), "event_id", "item_idx")
    is_sample = F.col("sample").isNotNull()
    by_time = Window.partitionBy("user_id").orderBy("event_time", "position", F.desc(is_sample), "event_id")
    before = by_time.rowsBetween(Window.unboundedPreceding, Window.currentRow)
    newest = Window.partitionBy("user_id").orderBy("number").rangeBetween(1 - length, Window.currentRow)
    return (
        asked.unionByName(known, allowMissingColumns=True)
        .withColumn("number", F.count("item_idx").over(before))
        .withColumn("history", F.reverse(F.collect_list("item_idx").over(newest)))
        .where(is_sample)
        .select("sample.*", "history")
    )


def padded(history: str, length: int) -> Column:
    """An array of exactly ``length`` entries: the history, then zeros."""
    return F.slice(F.concat(F.col(history), F.array_repeat(F.lit(0), length)), 1, length)
