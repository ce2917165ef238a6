"""A lake of made-up training samples of any size, written as the job build_samples writes them."""

from __future__ import annotations

from datetime import date

from pyspark.sql import Column
from pyspark.sql import functions as F

from akt_spark.config import SamplesConfig
from akt_spark.features.blocks import block_counts, placed_in_blocks
from akt_spark.lake import Lake

HISTORY, USERS, ITEMS, HELD_OUT = 50, 20_000, 10_000, 8192
FEATURES, VECTOR, CODES, CATEGORIES = 5, 64, (64, 64, 32), 100
SEED = 1


def write(lake: Lake, rows: int) -> None:
    """So many training samples, `HELD_OUT` for validation and for test, and both look-ups.

    Ids by Zipf's law, histories of 0 to `HISTORY` entries, one attribute each; items of even number are liked more.
    """
    write_lookup(lake, "item", ITEMS)
    write_lookup(lake, "user", USERS)
    counts = {"train": rows, "validation": HELD_OUT, "test": HELD_OUT}
    split = F.when(F.col("id") < rows, "train").when(F.col("id") < rows + HELD_OUT, "validation").otherwise("test")
    item, length = zipf(ITEMS, "item"), F.floor(share("length") * (HISTORY + 1)).cast("int")
    samples = lake.spark.range(sum(counts.values())).select(
        F.format_string("s%09d", "id").alias("sample_id"),
        split.alias("split"),
        F.lit(date(2024, 1, 1)).alias("day"),
        (share("label") < F.when(item % 2 == 0, 0.7).otherwise(0.3)).cast("float").alias("label"),
        zipf(USERS, "user").alias("user_idx"),
        item.alias("item_idx"),
        length.alias("history_length"),
        F.transform(
            F.sequence(F.lit(1), F.lit(HISTORY)),
            lambda place: F.when(place <= length, zipf(ITEMS, "history", place)).otherwise(0),
        ).alias("history"),
        floats(FEATURES, "user activity").alias("user_activity"),
        floats(FEATURES, "item activity").alias("item_activity"),
    )
    blocks = block_counts(counts, SamplesConfig().block_rows, train_blocks=4)
    lake.overwrite("training.samples", placed_in_blocks(samples, blocks, SEED))


def write_lookup(lake: Lake, entity: str, size: int) -> None:
    """Ids 1 to ``size - 1``, a fifth of them teachers, all with codes and a vector."""
    rows = lake.spark.range(1, size).select(
        F.col("id").cast("int").alias("idx"),
        F.col("id").cast("string").alias(f"{entity}_id"),
        F.floor(F.lit(size) / F.col("id")).alias("impressions"),
        F.lit(0).cast("long").alias("clicks"),
        F.lit("head").alias("segment"),
        F.when(F.col("id") <= size // 5, "teacher").otherwise("student").alias("role"),
        zipf(CATEGORIES, "category").alias("category"),
        F.array(zipf(CATEGORIES, "category")).alias("attributes"),
        floats(FEATURES, "activity").alias("activity"),
        F.array(*(F.floor(share("code", level) * codes).cast("int") for level, codes in enumerate(CODES))).alias(
            "codes"
        ),
        F.lit("made up").alias("codebook_version"),
        floats(VECTOR, "vector").alias("vector"),
    )
    if entity == "item":
        rows = rows.withColumn("other_codes", F.lit(None).cast("map<string,array<int>>"))
    lake.overwrite(f"training.{entity}s", rows)


def share(*what: object) -> Column:
    """A number from 0 to 1 that a row draws for a purpose."""
    return F.pmod(F.xxhash64("id", *(F.lit(one) for one in what)), F.lit(2**30)) / 2**30


def zipf(size: int, *what: object) -> Column:
    """A rank from 1 to ``size - 1`` with a chance of about 1 / rank."""
    return F.floor(F.exp(share(*what) * F.log(F.lit(float(size))))).cast("int")


def floats(width: int, what: str) -> Column:
    """So many numbers from 0 to 1."""
    return F.transform(F.sequence(F.lit(1), F.lit(width)), lambda place: share(what, place).cast("float"))
