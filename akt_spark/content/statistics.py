"""Statistics of items as a tuned encoder's prompt tells them: deciles of the training period (method.md 2.2)."""

from __future__ import annotations

from datetime import date

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from akt_spark.config import fingerprint
from akt_spark.content.prompts import item_prompt

MIN_EXPOSURES = 10  # below, rates are noise
STEPS = 10_000  # rates are compared in steps of 1 / STEPS, so that their histogram stays small
UNKNOWN = "unknown"
# name in the prompt: what of what; a conversion is of a click
STATISTICS = {
    "CTR": ("click", "impression"),
    "CVR": ("purchase", "click"),
    "cart": ("cart", "impression"),
    "exposures": ("impression", None),
}


def item_statistics(events: DataFrame, until: date) -> DataFrame:
    """Deciles of every item that was shown often enough up to and including ``until``.

    The decile of a value is 1 to 10, by the share of items with a lower one: equal values share it. It comes from the
    histogram of values, not from a sort of all items.

    Returns:
        item_id, statistics: such as ``CTR 3/10, CVR unknown, cart 1/10, exposures 9/10`` (CVR: nobody clicked).
    """
    kinds = ("impression", "click", "cart", "purchase")
    counts = (
        events.where(F.col("ds") <= F.lit(until))
        .groupBy("item_id")
        .agg(*(F.count_if(F.col("event_type") == kind).alias(kind) for kind in kinds))
        .where(F.col("impression") >= MIN_EXPOSURES)
    )
    values = counts.select("item_id", *(_value(*of).alias(name) for name, of in STATISTICS.items()))
    for name in STATISTICS:
        values = values.join(_deciles(values, name), on=name, how="left")
    return values.select("item_id", F.concat_ws(", ", *map(_told, STATISTICS)).alias("statistics"))


def with_statistics(items: DataFrame, statistics: DataFrame) -> DataFrame:
    """Adds ``statistics`` to catalogue rows: `item_statistics`, or 'unknown'."""
    told = items.join(statistics, on="item_id", how="left")
    return told.withColumn("statistics", F.coalesce("statistics", F.lit(UNKNOWN)))


def statistics_hash(statistics: DataFrame) -> str:
    """A hash of all rows, in any order."""
    row = F.xxhash64("item_id", "statistics").cast("decimal(38,0)")
    total = statistics.agg(F.count("*").alias("items"), F.sum(row).alias("sum")).head()
    return fingerprint(total["items"], str(total["sum"]))


def text_fingerprint() -> str:
    """Changes whenever what the prompt makes of statistics does."""
    return fingerprint(item_prompt("t", description="d", statistics="s"), STATISTICS, MIN_EXPOSURES, STEPS, UNKNOWN)


def _value(count: str, of: str | None) -> Column:
    """A count, or a rate in steps; null where it is a rate of nothing."""
    return F.col(count) if of is None else F.floor(F.try_divide(F.col(count) * STEPS, F.col(of)))


def _told(name: str) -> Column:
    known = F.concat(F.col(f"{name} decile").cast("string"), F.lit("/10"))
    return F.concat(F.lit(f"{name} "), F.coalesce(known, F.lit(UNKNOWN)))


def _deciles(values: DataFrame, name: str) -> DataFrame:
    """The decile of every value of one statistic."""
    histogram = values.where(F.col(name).isNotNull()).groupBy(name).agg(F.count("*").alias("items"))
    lower = F.sum("items").over(Window.orderBy(name)) - F.col("items")
    total = F.sum("items").over(Window.partitionBy())
    decile = F.least(F.floor(10 * lower / total) + 1, F.lit(10)).cast("int")
    return F.broadcast(histogram.select(name, decile.alias(f"{name} decile")))
