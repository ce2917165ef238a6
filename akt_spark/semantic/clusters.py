"""Counts of codes and of clusters (ids that share a prefix of their semantic ID)."""

from __future__ import annotations

from collections.abc import Iterator

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

Measure = tuple[str, int, float | None]  # metric, level (0: the whole ID), value


def code_measures(ids: DataFrame, sizes: tuple[int, ...]) -> Iterator[Measure]:
    """Use of every level's codebook: coverage used / K_l, and perplexity exp(-sum p log p) (method.md 4.4).

    Args:
        ids: codes ARRAY<INT>.
    """
    use = (
        ids.select(F.posexplode("codes").alias("position", "code"))
        .groupBy("position", "code")
        .agg(F.count("*").alias("n"))
    )
    total = F.sum("n")
    entropy = F.log(total) - F.sum(F.col("n") * F.log("n")) / total
    rows = use.groupBy("position").agg(F.count("*").alias("used"), F.exp(entropy).alias("perplexity")).collect()
    for row in rows:
        yield "coverage", row["position"] + 1, row["used"] / sizes[row["position"]]
        yield "perplexity", row["position"] + 1, row["perplexity"]


def prefixes(ids: DataFrame, levels: int) -> DataFrame:
    """Every row of ``ids`` (sid, ...) once a prefix length: the columns of ``ids``, level from 1, prefix."""
    each = ids.withColumn("level", F.explode(F.sequence(F.lit(1), F.lit(levels))))
    return each.withColumn("prefix", F.expr("substring_index(sid, '-', level)"))


def cluster_measures(ids: DataFrame, roles: DataFrame, levels: int) -> Iterator[Measure]:
    """Clusters of every prefix length.

    collision: 1 - clusters / ids (method.md 4.4: reported, not minimised); largest_bucket: share of ids in the largest
    cluster; median_cluster_size: ids in the median cluster; head_coverage: share of students whose cluster holds a
    teacher (method.md 4.3), null without students. Collision and largest bucket of the whole ID also stand at level 0.

    Args:
        ids: id, sid.
        roles: id, role (teacher, student, none).
    """
    members = prefixes(ids.join(roles, on="id", how="left").select("sid", "role"), levels)
    clusters = members.groupBy("level", "prefix").agg(
        F.count("*").alias("size"),
        F.count_if(F.col("role") == "teacher").alias("teachers"),
        F.count_if(F.col("role") == "student").alias("students"),
    )
    taught = F.sum(F.when(F.col("teachers") > 0, F.col("students")).otherwise(0))
    rows = clusters.groupBy("level").agg(
        (1 - F.count("*") / F.sum("size")).alias("collision"),
        (F.max("size") / F.sum("size")).alias("largest_bucket"),
        F.median("size").alias("median_cluster_size"),
        F.try_divide(taught, F.sum("students")).alias("head_coverage"),
    )
    for row in rows.collect():
        for metric in ("collision", "largest_bucket", "median_cluster_size", "head_coverage"):
            yield metric, row["level"], row[metric]
        if row["level"] == levels:
            yield "collision", 0, row["collision"]
            yield "largest_bucket", 0, row["largest_bucket"]
