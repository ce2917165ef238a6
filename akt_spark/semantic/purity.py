"""How well clusters agree with the leaf category of the catalogue."""

from __future__ import annotations

from collections.abc import Iterator

from pyspark.sql import functions as F

from akt_spark.semantic.clusters import PLACE, Cells, entropy
from akt_spark.semantic.measures import Measure


def purity_measures(found: Cells) -> Iterator[Measure]:
    """By prefix length, over the ids that have a category.

    purity: share of ids that have the most frequent category of their cluster; nmi: mutual information of cluster and
    category over the mean of their entropies, 1 where each tells the other, null where neither varies.
    """
    labelled = found.counts.where(F.col("leaf").isNotNull())
    joint = labelled.groupBy(*PLACE, "prefix", "leaf").agg(F.sum("n").alias("n")).persist()
    try:
        clusters = joint.groupBy(*PLACE, "prefix").agg(F.max("n").alias("best"), F.sum("n").alias("n"))
        best = F.sum("best") / F.sum("n")
        of_clusters = clusters.groupBy(*PLACE).agg(best.alias("purity"), entropy("n").alias("clusters"))
        leaves = joint.groupBy(*PLACE, "leaf").agg(F.sum("n").alias("n"))
        of_leaves = leaves.groupBy(*PLACE).agg(entropy("n").alias("leaves"))
        of_both = joint.groupBy(*PLACE).agg(entropy("n").alias("joint"))
        for row in of_clusters.join(of_leaves, on=[*PLACE]).join(of_both, on=[*PLACE]).collect():
            yield Measure("purity", row["level"], row["purity"], row["control"])
            mean = (row["clusters"] + row["leaves"]) / 2
            shared = row["clusters"] + row["leaves"] - row["joint"]
            yield Measure("nmi", row["level"], shared / mean if mean > 0 else None, row["control"])
    finally:
        joint.unpersist()
