"""Which impressions were clicked."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql.window import WindowSpec

from akt_spark.features.events import FIRST, LAST, position


def labelled_impressions(events: DataFrame, window_minutes: float) -> DataFrame:
    """Every impression once, with ``label`` 1.0 when a click of the same user and item belongs to it, else 0.0.

    A click belongs to the latest impression before it (or at the same time, unless both have an ``event_order`` that
    puts the click first), and counts when it comes at most ``window_minutes`` later. In the time order of a pair this
    asks only whether the very next row is a click: further clicks add nothing, and one click never labels two
    impressions. One shuffle, by user and item.

    Args:
        events: rows with the columns of ``bronze.events``; a click later than they reach labels nothing.
        window_minutes: the longest wait for a click.

    Returns:
        The columns of ``events`` and ``label`` FLOAT.
    """
    is_impression = F.col("event_type") == "impression"
    place = F.when(is_impression, position(FIRST)).otherwise(position(LAST))
    in_order = Window.partitionBy("user_id", "item_id").orderBy("event_time", place, F.desc(is_impression), "event_id")
    clicked = _next("event_type", in_order) == "click"
    waited = F.unix_micros(_next("event_time", in_order)) - F.unix_micros("event_time")
    label = F.coalesce((clicked & (waited <= window_minutes * 60e6)).cast("float"), F.lit(0.0).cast("float"))
    shown_or_clicked = events.where(F.col("event_type").isin("impression", "click"))
    return shown_or_clicked.withColumn("label", label).where(is_impression)


def _next(column: str, in_order: WindowSpec) -> Column:
    return F.lead(column).over(in_order)
