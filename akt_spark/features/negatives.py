"""Sampled negatives, for logs that say what was clicked or bought but not what was shown (method.md 8).

Real impressions are better: sampled negatives measure how well positives are told from the catalogue, not from what
the user saw and left. Negatives drawn by popularity are more popular than the positives, so an AUC over them misleads
(below .5 has been published for sound models): report uniform and popularity side by side, and compare only models
that saw the same negatives.

The draw rests on one observation: an item's weight never falls, so the weight of every item as of a day is the sum of
what it *gained* on the days before. Laid end to end in the order of days, all gains make one line on which every day
owns a prefix: a uniform place in the prefix of the days strictly before a sample hits every item live at that time in
proportion to its weight then. No day ever needs its own table of all items.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from itertools import accumulate

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from akt_spark.features.activity import COUNTS, activity_log, as_of, daily_counts

POPULARITY_EXPONENT = 0.75
UNITS = 1000  # of weight in one; whole numbers add up to the same sum in any order
SPARE_DRAWS = 4  # replace draws of what the user took that day


def uniform_gains(item_activity: DataFrame, catalogue: DataFrame) -> DataFrame:
    """Every item weighs the same from the day after it went live: its first event, or ``first_seen`` if earlier.

    One shuffle, by item.

    Args:
        item_activity: rows of ``features.item_activity``.
        catalogue: rows of ``bronze.items``.

    Returns:
        item_id, day, weight BIGINT above 0: what the item gained on a day.
    """
    by_event = item_activity.select("item_id", F.col("first_ds").alias("day"))
    by_catalogue = catalogue.where(F.col("first_seen").isNotNull()).select("item_id", F.col("first_seen").alias("day"))
    live = by_event.unionByName(by_catalogue).groupBy("item_id").agg(F.min("day").alias("day"))
    return live.withColumn("weight", F.lit(1).cast("bigint"))


def popularity_gains(item_activity: DataFrame, positive_events: Sequence[str]) -> DataFrame:
    """An item weighs (its positive events so far)^.75; before its first one it is never drawn.

    One shuffle, by item.

    Args:
        item_activity: rows of ``features.item_activity``.
        positive_events: event types that count.

    Returns:
        Columns as of `uniform_gains`.
    """
    positives = sum((F.col(name) for name, kind in COUNTS.items() if kind in positive_events), F.lit(0))
    weight = F.round(F.lit(UNITS) * F.pow(positives, F.lit(POPULARITY_EXPONENT))).cast("bigint")
    before = F.lag("total", 1, 0).over(Window.partitionBy("item_id").orderBy("day"))
    totals = item_activity.select("item_id", F.col("ds").alias("day"), weight.alias("total"))
    return totals.select("item_id", "day", (F.col("total") - before).alias("weight")).where(F.col("weight") > 0)


def planted_activity(log: DataFrame, events: DataFrame, until: date) -> DataFrame:
    """The activity of items from which negatives are drawn: cut in training, and afterwards as if nothing were planted.

    So in training a planted item is drawn like any item with its events, and in the test like any item that it is:
    without its negatives, there would be nothing to tell its positives from.

    Args:
        log: rows of ``features.item_activity``.
        events: the log before anything is cut.
        until: the last day of the training period.

    Returns:
        The columns of ``log``. From the day ``until`` on, counts are those of ``events``.
    """
    whole = activity_log(daily_counts(events, "item"), "item")
    at_the_end = as_of(whole, until).withColumn("ds", F.lit(until))
    later = at_the_end.unionByName(whole.where(F.col("ds") > F.lit(until)))
    later = later.withColumn("first_ds", F.greatest("first_ds", F.lit(until)))  # no item is live earlier than it was
    return log.where(F.col("ds") < F.lit(until)).unionByName(later.select(log.columns))


def with_sampled_negatives(positives: DataFrame, gains: DataFrame, per_positive: int, seed: int) -> DataFrame:
    """Every positive with label 1.0, and behind it items drawn for it, at its time, with label 0.0.

    Items are drawn with replacement, by their weight as of the days strictly before the positive's. What the user took
    on that day is never a negative: such draws are replaced from ``SPARE_DRAWS`` more, so a positive of a user who took
    most of the catalogue has fewer negatives, and one on a day before which nothing was live is left out. A draw is
    a hash of seed, event and draw number: it depends on no partitioning, and on no other positive.

    Cost: rows of positives times (``per_positive`` + ``SPARE_DRAWS``) pass one equi-join with at most twice the rows of
    ``gains``; nothing but the totals of days reaches the driver. Shuffles besides those of ``gains``: gains by day (a
    day's gains are sorted in one task), gains and draws by cell of the line, draws and what was taken by user, day and
    item, draws that are left and positives by event.

    Args:
        positives: event_id (unique), user_id, item_id, ds and any other columns.
        gains: item_id, day, weight: what an item gained on a day (`uniform_gains`, `popularity_gains`).
        per_positive: negatives wanted.
        seed: changes the draws.

    Returns:
        The columns of ``positives`` and ``label`` FLOAT; the event_id of a negative is a hash of the positive's and
        the draw number.
    """
    drawn = _drawn(positives.select("event_id", "user_id", "ds"), gains, per_positive + SPARE_DRAWS, seed)
    taken = positives.select("user_id", "ds", "item_id").distinct()
    left = drawn.join(taken, on=["user_id", "ds", "item_id"], how="left_anti").groupBy("event_id")
    in_order = F.array_sort(F.collect_list(F.struct("number", "item_id")))
    negatives = left.agg(F.slice(in_order, 1, per_positive).alias("negatives"))

    def negative(draw: F.Column) -> F.Column:
        identity = F.md5(F.concat_ws("/", F.col("event_id"), draw["number"]))
        return F.struct(identity.alias("event_id"), draw["item_id"].alias("item_id"), F.lit(0.0).alias("label"))

    positive = F.struct("event_id", "item_id", F.lit(1.0).alias("label"))
    kept = [name for name in positives.columns if name not in ("event_id", "item_id")]
    return (
        positives.join(negatives, on="event_id", how="inner")
        .select(*kept, F.explode(F.concat(F.array(positive), F.transform("negatives", negative))).alias("sample"))
        .select(*kept, "sample.*")
        .select(*positives.columns, F.col("label").cast("float").alias("label"))
    )


def _drawn(events: DataFrame, gains: DataFrame, draws: int, seed: int) -> DataFrame:
    """The columns of ``events`` with number and item_id, one row a draw."""
    totals = gains.groupBy("day").agg(F.sum("weight").alias("gained"), F.count("*").alias("rows"))
    days = totals.orderBy("day").collect()
    *starts, length = accumulate((day["gained"] for day in days), initial=0)
    cell = max(1, length // max(1, sum(day["rows"] for day in days)))  # as many cells as gains: few of either in one
    rows = [(day["day"], start, day["gained"]) for day, start in zip(days, starts, strict=True)]
    line = F.broadcast(events.sparkSession.createDataFrame(rows, "day date, start bigint, gained bigint"))
    places, spans = _places(events, line, draws, seed), _spans(gains, line)
    places = places.withColumn("cell", F.expr(f"place DIV {cell}"))
    spans = spans.withColumn("cell", F.explode(F.expr(f"sequence(start DIV {cell}, (stop - 1) DIV {cell})")))
    hit = (F.col("start") <= F.col("place")) & (F.col("place") < F.col("stop"))
    return places.join(spans, on="cell", how="inner").where(hit).select(*events.columns, "number", "item_id")


def _places(events: DataFrame, line: DataFrame, draws: int, seed: int) -> DataFrame:
    """The columns of ``events`` with number and place: ``draws`` uniform places, on the line before an event's day."""
    known = events.select("ds").distinct().join(line, on=F.col("day") < F.col("ds"), how="inner")
    known = F.broadcast(known.groupBy("ds").agg(F.sum("gained").alias("known")))
    numbers = F.explode(F.sequence(F.lit(0), F.lit(draws - 1)))
    place = F.pmod(F.xxhash64(F.lit(seed), "event_id", "number"), F.col("known"))
    asked = events.join(known, on="ds", how="inner").withColumn("number", numbers)
    return asked.select(*events.columns, "number", place.alias("place"))


def _spans(gains: DataFrame, line: DataFrame) -> DataFrame:
    """item_id, start, stop: the part of the line that an item gained on a day, stop excluded."""
    so_far = Window.partitionBy("day").orderBy("item_id").rowsBetween(Window.unboundedPreceding, Window.currentRow)
    stop = F.col("start") + F.col("within")
    return (
        gains.withColumn("within", F.sum("weight").over(so_far))
        .join(line, on="day", how="inner")
        .select("item_id", (stop - F.col("weight")).alias("start"), stop.alias("stop"))
    )
