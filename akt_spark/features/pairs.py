"""Pairs of items that the same users clicked, or bought, close together: the signal that aligns the item encoder."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from akt_spark.config import AlignmentConfig

SECONDS_A_DAY = 86_400
HASH_STEPS = 10_000


def positives_until(events: DataFrame, last_day: date, kinds: Sequence[str]) -> DataFrame:
    """Events of the given types up to and including ``last_day``: all that anything fitted for a night may see."""
    return events.where(F.col("event_type").isin(*kinds) & (F.col("ds") <= F.lit(last_day)))


def item_pairs(positives: DataFrame, config: AlignmentConfig) -> DataFrame:
    """Mines the best-scored pairs of every item (method.md 2.1).

    A user's positives of one kind in time order (then event_order, then event_id) pair with at most the
    ``pair_window`` next ones, at most ``pair_gap_days`` later; one never pairs with another of the same item. Kinds do
    not mix: most purchases follow a click on the same item, so that pairs of a click and a purchase would repeat those
    of clicks, and fill the window. With n_ab the pairings of a and b in either order and of any kind, and n_a the
    positives of a, their score is the shrunk, popularity-debiased lift::

        s(a, b) = n_ab / (n_a^gamma n_b^gamma) * n_ab / (n_ab + kappa)

    Every item keeps its ``pairs_per_item`` best positives, so (a, b) may be there without (b, a). Both directions are
    held out together: the side is a hash of the unordered pair. Cost: one shuffle and sort by user and kind, of at most
    ``pair_history`` newest positives a user from every task that reads the log, and positives x window rows.

    Args:
        positives: user_id, item_id, event_type, event_time, event_order, event_id.

    Returns:
        item_id, positive_id, together, score, held_out.
    """
    together = _neighbours(positives, config).groupBy("a", "b").agg(F.count("*").alias("together"))
    popularity = positives.groupBy("item_id").agg(F.count("*").alias("n"))
    expected = F.pow(F.col("n_a") * F.col("n_b"), F.lit(config.lift_gamma))
    shrunk = F.col("together") / (F.col("together") + F.lit(config.lift_kappa))
    scored = (
        together.join(popularity.select(F.col("item_id").alias("a"), F.col("n").alias("n_a")), on="a", how="inner")
        .join(popularity.select(F.col("item_id").alias("b"), F.col("n").alias("n_b")), on="b", how="inner")
        .withColumn("score", F.col("together") / expected * shrunk)
        .withColumn("held_out", _held_out(config))
    )
    directions = F.explode(
        F.array(
            F.struct(F.col("a").alias("item_id"), F.col("b").alias("positive_id")),
            F.struct(F.col("b").alias("item_id"), F.col("a").alias("positive_id")),
        )
    ).alias("pair")
    best_first = Window.partitionBy("item_id").orderBy(F.desc("score"), "positive_id")
    return (
        scored.select(directions, "together", "score", "held_out")
        .select("pair.*", "together", "score", "held_out")
        .withColumn("place", F.row_number().over(best_first))
        .where(F.col("place") <= config.pairs_per_item)
        .drop("place")
    )


def _neighbours(positives: DataFrame, config: AlignmentConfig) -> DataFrame:
    """One row (a, b), a < b, for every two positives that pair."""
    newest_first = Window.partitionBy("user_id", "event_type").orderBy(
        F.desc("event_time"), F.desc_nulls_last("event_order"), F.desc("event_id")
    )
    # Spark applies such a limit before the shuffle as well: no task gets a heavy user's whole history
    newest = positives.withColumn("place", F.row_number().over(newest_first)).where(
        F.col("place") <= config.pair_history
    )
    positive = F.struct(F.col("item_id"), F.col("event_time").cast("double").alias("at"))
    earlier = F.collect_list(positive).over(newest_first.rowsBetween(1, config.pair_window))
    gap = F.col("event_time").cast("double") - F.col("earlier.at")
    return (
        newest.withColumn("earlier", earlier)
        .select("item_id", "event_time", F.explode("earlier").alias("earlier"))
        .where((gap <= config.pair_gap_days * SECONDS_A_DAY) & (F.col("item_id") != F.col("earlier.item_id")))
        .select(F.least("item_id", "earlier.item_id").alias("a"), F.greatest("item_id", "earlier.item_id").alias("b"))
    )


def _held_out(config: AlignmentConfig) -> F.Column:
    """Whether the pair (a, b) is kept from training: the same for both directions, every run and any partitioning."""
    step = F.pmod(F.xxhash64("a", "b", F.lit(config.seed)), F.lit(HASH_STEPS))
    return step < round(config.held_out_share * HASH_STEPS)
