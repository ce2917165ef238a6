"""What changes when one codebook follows another: every ID that moves, and how well the clusterings agree."""

from __future__ import annotations

from collections.abc import Iterator

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from akt_spark.features.segments import segments
from akt_spark.semantic.measures import RANDOM, Measure
from akt_spark.stage import Context

CHURN = "semantic.churn"


def changed_ids(old: DataFrame, new: DataFrame, same_encoder: bool) -> DataFrame:
    """The ids of both whose semantic ID differs. One shuffle of each, by id.

    Args:
        old: id, sid, codes, content_hash.
        new: likewise.
        same_encoder: whether both codebooks were fitted on vectors of one encoder.

    Returns:
        id, old_sid, new_sid; depth, the first level, from 1, at which they differ; and the reason: ``content changed``,
        else ``encoder changed``, else ``moved cell``.
    """
    content = F.col("old.content_hash") != F.col("new.content_hash")
    differs = F.zip_with("old.codes", "new.codes", lambda before, now: ~before.eqNullSafe(now))
    why = F.lit("moved cell" if same_encoder else "encoder changed")
    both = old.alias("old").join(new.alias("new"), on="id", how="inner").where(F.col("old.sid") != F.col("new.sid"))
    return both.select(
        "id",
        F.col("old.sid").alias("old_sid"),
        F.col("new.sid").alias("new_sid"),
        F.array_position(differs, True).cast("int").alias("depth"),
        F.when(content, "content changed").otherwise(why).alias("reason"),
    )


def churn_measures(old: DataFrame, new: DataFrame, levels: int) -> Iterator[Measure]:
    """Agreement of two sets of IDs by prefix length, over the ids of both.

    churn: share whose prefix differs, which depends on what codes are called; adjusted_rand: chance-corrected agreement
    of the clusters (Hubert and Arabie 1985), which does not; 1 where both are one and the same clustering. The random
    control is what is expected of the new IDs permuted among the ids.

    Args:
        old: id, sid.
        new: likewise.
        levels: prefix lengths that both have.
    """
    both = old.select("id", F.col("sid").alias("old")).join(new.select("id", F.col("sid").alias("new")), on="id")
    each = both.withColumn("level", F.explode(F.sequence(F.lit(1), F.lit(levels))))
    prefix = {name: F.expr(f"substring_index({name}, '-', level)").alias(name) for name in ("old", "new")}
    cells = each.select("level", *prefix.values()).groupBy("level", "old", "new").agg(F.count("*").alias("n")).persist()
    try:
        pairs = _pairs(cells, "old", "new")
        moved = F.sum(F.when(F.col("old") != F.col("new"), F.col("n")).otherwise(0)) / F.sum("n")
        churn = cells.groupBy("level").agg(moved.alias("churn"), F.sum("n").alias("ids"))
        olds, news = _pairs(cells, "old"), _pairs(cells, "new")
        named_alike = _named_alike(cells)
        for level, share, ids in churn.orderBy("level").collect():
            yield Measure("churn", level, share)
            yield Measure("churn", level, 1 - named_alike.get(level, 0) / ids**2, RANDOM)
            expected = olds[level] * news[level] / max(ids * (ids - 1) / 2, 1)
            most = (olds[level] + news[level]) / 2
            agreement = (pairs[level] - expected) / (most - expected) if most > expected else 1.0
            yield Measure("adjusted_rand", level, agreement)
            yield Measure("adjusted_rand", level, 0.0, RANDOM)  # by its definition
    finally:
        cells.unpersist()


def _pairs(cells: DataFrame, *key: str) -> dict[int, float]:
    """By level: pairs of ids that share ``key``."""
    groups = cells.groupBy("level", *key).agg(F.sum("n").alias("n"))
    return {row["level"]: row["pairs"] for row in groups.groupBy("level").agg(_chosen(F.col("n"))).collect()}


def _named_alike(cells: DataFrame) -> dict[int, float]:
    """By level: pairs of an old and a new ID, of any two ids, whose prefixes are the same."""
    old, new = (
        cells.groupBy("level", F.col(name).alias("prefix")).agg(F.sum("n").alias(name)) for name in ("old", "new")
    )
    both = old.join(new, on=["level", "prefix"]).groupBy("level").agg(F.sum(F.col("old") * F.col("new")).alias("pairs"))
    return {row["level"]: row["pairs"] for row in both.collect()}


def _chosen(n: Column) -> Column:
    return F.sum(n * (n - 1) / 2).alias("pairs")


def write_churn(ctx: Context, entity: str, old: str, new: str, changed: DataFrame) -> int:
    """Writes the ids that codebook ``new`` gives another ID than ``old`` did; returns how many.

    Of two codebooks the last comparison stays; of one and the same, every change of content.

    Args:
        changed: what `changed_ids` gives.
    """
    train_end = ctx.config.split.train_end(ctx.ds)
    known = segments(ctx.lake, entity, train_end, getattr(ctx.config.segments, entity))
    segment = known.select(F.col(f"{entity}_id").alias("id"), "segment")
    constants = {"entity": entity, "from_version": old, "to_version": new}
    rows = changed.join(segment, on="id", how="left").withColumns({k: F.lit(v) for k, v in constants.items()})
    rows = rows.withColumn("ds", F.lit(ctx.ds)).persist()
    try:
        if old == new:
            ctx.lake.merge(CHURN, rows)
        else:
            same = " AND ".join(f"{name} = '{value}'" for name, value in constants.items())
            ctx.lake.overwrite(CHURN, rows, where=same)
        return rows.count()
    finally:
        rows.unpersist()
