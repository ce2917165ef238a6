"""Dense integers for items and users, the rows of embedding tables: stable, append-only, from 1; 0 is padding."""

from __future__ import annotations

from itertools import accumulate

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from akt_spark.lake import BuiltOn, Lake, Table

BUCKET_ROWS = 500_000  # ids that one task numbers
SAMPLE_PER_BUCKET = 50


def extend_index(lake: Lake, entity: str, ids: DataFrame, bucket_rows: int = BUCKET_ROWS) -> int:
    """Numbers the ids that ``features.<entity>_index`` does not hold, after the highest number given so far.

    New ids are numbered in their own order, so the same ids get the same numbers however they are distributed. Of two
    runs that number ids at once, one starts again from what the other has written.

    Args:
        lake: the tables.
        entity: ``item`` or ``user``.
        ids: DataFrame with the column ``<entity>_id``; duplicates and known ids are welcome.
        bucket_rows: ids that one task sorts.

    Returns:
        How many ids were added; without a new id the table gets no new version.

    Raises:
        AktError: when other writers kept numbering ids.
    """
    table = f"features.{entity}_index"
    lake.register(table)
    return lake.retried(table, lambda: _extend(lake, table, ids, bucket_rows))


def _extend(lake: Lake, table: str, ids: DataFrame, bucket_rows: int) -> int:
    version, (key,) = lake.version(table), Table.load(table).key
    known = lake.read(table, version)
    new = ids.select(key).distinct().join(known, on=key, how="left_anti").persist()
    try:
        count = new.count()
        if count:
            highest = known.agg(F.max("idx")).head()[0] or 0
            numbered = _numbered(new, key, buckets=-(-count // bucket_rows))
            lake.append(table, numbered.withColumn("idx", F.col("idx") + highest), on=BuiltOn(version))
    finally:
        new.unpersist()
    return count


def _numbered(ids: DataFrame, key: str, buckets: int) -> DataFrame:
    """Columns key and idx: the place of every id in the order of all, from 1, without sorting all in one place.

    Ids are cut into ranges at sampled boundaries, numbered inside each range, and shifted by the size of the ranges
    before it. The boundaries only balance the work: the numbers are the same for any of them.
    """
    boundaries = _boundaries(ids, key, buckets)
    bucket = F.lit(0)
    for place, boundary in enumerate(boundaries, start=1):
        bucket = F.when(F.col(key) >= boundary, place).otherwise(bucket)
    placed = ids.withColumn("bucket", bucket)
    sizes = {row["bucket"]: row["count"] for row in placed.groupBy("bucket").count().collect()}
    starts = accumulate((sizes.get(place, 0) for place in range(len(boundaries))), initial=0)
    offset = F.create_map(*[F.lit(value) for pair in enumerate(starts) for value in pair])
    within = F.row_number().over(Window.partitionBy("bucket").orderBy(key))
    return placed.select(key, (within + offset[F.col("bucket")]).alias("idx"))


def _boundaries(ids: DataFrame, key: str, buckets: int) -> list[str]:
    """At most ``buckets - 1`` ids that cut the rest into ranges of similar size."""
    if buckets < 2:
        return []
    sample = ids.orderBy(F.xxhash64(key)).limit(buckets * SAMPLE_PER_BUCKET).orderBy(key)
    ordered = [row[key] for row in sample.collect()]
    return ordered[:: -(-len(ordered) // buckets)][1:]
