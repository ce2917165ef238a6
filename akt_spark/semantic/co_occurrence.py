"""Whether items that people click together share a prefix: co-occurrence recall (SIDInspector, arXiv 2606.10375)."""

from __future__ import annotations

from collections.abc import Iterator

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from akt_spark.semantic.labelled import controls_of
from akt_spark.semantic.measures import Measure


def co_occurrence_measures(labelled: DataFrame, pairs: DataFrame, levels: int) -> Iterator[Measure]:
    """co_occurrence_recall: share of pairs whose two items have the same prefix, by prefix length.

    Args:
        labelled: see `labelled_ids`.
        pairs: item_id, positive_id: pairs that no encoder was trained on.
        levels: prefix lengths.
    """
    one = controls_of(labelled).select("control", F.col("id").alias("item_id"), F.col("assigned").alias("a"))
    other = one.select("control", F.col("item_id").alias("positive_id"), F.col("a").alias("b"))
    both = pairs.select("item_id", "positive_id").join(one, on="item_id").join(other, on=["control", "positive_id"])
    same = {level: F.slice("a", 1, level) == F.slice("b", 1, level) for level in range(1, levels + 1)}
    recall = [F.avg(equal.cast("double")).alias(str(level)) for level, equal in same.items()]
    for row in both.groupBy("control").agg(*recall).collect():
        for level in same:
            yield Measure("co_occurrence_recall", level, row[str(level)], row["control"])
