"""Placement of samples in files: one split a file, about `block_rows` rows, the same rows for the same seed."""

from __future__ import annotations

from math import ceil, log

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F


def block_counts(rows: dict[str, int], block_rows: int, train_blocks: int) -> dict[str, int]:
    """Blocks of every split: ceil(rows / block_rows), but at least ``train_blocks`` of training."""
    counts = {split: ceil(n / block_rows) for split, n in rows.items()}
    return counts | {"train": max(counts["train"], train_blocks)}


def placed_in_blocks(samples: DataFrame, counts: dict[str, int], seed: int) -> DataFrame:
    """Puts every block in a Spark partition of its own, so that a write makes one file of it. One shuffle.

    The block of a sample is a hash of its id, and the order inside a block another one: both depend on nothing but the
    id and the seed, so equal inputs give equal files.

    Args:
        samples: rows with ``sample_id`` and ``split``.
        counts: blocks of every split (`block_counts`).
        seed: changes the placement.

    Returns:
        The columns of ``samples``, in as many partitions as there are blocks.
    """
    first, block = 0, F.lit(None).cast("bigint")
    for split, count in counts.items():
        inside = F.pmod(F.xxhash64("sample_id", F.lit(seed)), F.lit(count))
        block = F.when(F.col("split") == split, inside + first).otherwise(block) if count else block
        first += count
    keys = F.broadcast(_partition_keys(samples.sparkSession, first))
    return (
        samples.withColumn("_block", block)
        .join(keys, on="_block", how="inner")
        .repartition(first, "_key")  # an explicit number: adaptive execution neither merges nor splits these partitions
        .sortWithinPartitions(F.xxhash64(F.lit(seed), "sample_id"), "sample_id")
        .select(*samples.columns)
    )


def _partition_keys(spark: SparkSession, partitions: int) -> DataFrame:
    """For each partition number ``_block`` an integer ``_key`` that ``repartition(partitions, "_key")`` sends there.

    Spark places a row by pmod(hash(key), partitions), and has no call that takes the partition number itself.
    """
    tried = ceil(partitions * (log(partitions) + 20))  # a number stays without a key with probability e^-20
    while True:
        found = spark.range(tried).withColumnRenamed("id", "_key")
        found = found.groupBy(F.pmod(F.hash("_key"), F.lit(partitions)).cast("bigint").alias("_block"))
        keys = found.agg(F.min("_key").alias("_key"))
        if keys.count() == partitions:
            return keys
        tried *= 2
