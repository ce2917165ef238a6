"""How well clusters agree with the leaf category, beside a random control of the same cluster sizes."""

from __future__ import annotations

from collections.abc import Iterator

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from akt_spark.semantic.clusters import Measure, prefixes

IDS_A_BUCKET = 100_000


def purity_measures(ids: DataFrame, categories: DataFrame, levels: int) -> Iterator[Measure]:
    """Share of ids that have the most frequent category of their cluster, by prefix length; ``_random`` the control.

    Args:
        ids: id, sid.
        categories: id, category; ids without one are left out.
    """
    labelled = ids.join(categories, on="id").select("id", "sid", "category")
    both = labelled.withColumn("metric", F.lit("purity")).unionByName(
        shuffled(labelled).withColumn("metric", F.lit("purity_random"))
    )
    counts = prefixes(both, levels).groupBy("metric", "level", "prefix", "category").agg(F.count("*").alias("n"))
    clusters = counts.groupBy("metric", "level", "prefix").agg(F.max("n").alias("best"), F.sum("n").alias("size"))
    rows = clusters.groupBy("metric", "level").agg((F.sum("best") / F.sum("size")).alias("value"))
    for row in rows.collect():
        yield row["metric"], row["level"], row["value"]


def shuffled(ids: DataFrame) -> DataFrame:
    """``ids`` (id, sid, ...) with the semantic IDs permuted among the ids: the sizes of all clusters stay.

    The permutation stays inside hash buckets of about 100,000 ids, so that no window holds the whole catalogue. It is
    a function of the ids alone.
    """
    buckets = 1 + ids.count() // IDS_A_BUCKET
    bucketed = ids.withColumn("bucket", F.pmod(F.xxhash64("id", F.lit("bucket")), F.lit(buckets)))
    by_id, by_hash = (
        Window.partitionBy("bucket").orderBy(key, "id") for key in ("id", F.xxhash64("id", F.lit("order")))
    )
    takers = bucketed.drop("sid").withColumn("rank", F.row_number().over(by_id))
    givers = bucketed.select("bucket", "sid", F.row_number().over(by_hash).alias("rank"))
    return takers.join(givers, on=["bucket", "rank"]).drop("bucket", "rank")
