"""A synthetic shop with a planted truth: any size, the same from the same seed, wherever it is generated.

    python -m akt_spark.sources.shop --out shop --users 300 --items 200 --days 20 --seed 1

writes ``events.parquet``, ``items.parquet`` (with drawn photos) and ``users.parquet``, which ``kind: folder`` reads
like any other log, and ``truth/``, which no stage reads: the planted groups (``items_truth.parquet``,
``users_truth.parquet``) and the true click probability of every impression (``impressions_truth.parquet``), the score
of an oracle.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from akt_spark.config import SparkConfig
from akt_spark.session import spark_session
from akt_spark.sources.shop_catalogue import blocks, draw_items, item_ids
from akt_spark.sources.shop_traffic import chunks, draw_events, draw_users
from akt_spark.sources.shop_world import ShopSize, World

__all__ = ["ShopSize", "generate"]

START = date(2024, 1, 1)
BLOCKS_A_CORE = 4
EVENTS = (
    "event_id STRING, user_id STRING, item_id STRING, event_type STRING, second BIGINT, event_order DOUBLE,"
    " value DOUBLE, probability DOUBLE"
)
USERS = "user_id STRING, profile MAP<STRING, STRING>, group INT"
ITEMS = (
    "item_id STRING, title STRING, description STRING, category ARRAY<STRING>, brand STRING, price DOUBLE,"
    " attributes MAP<STRING, STRING>, image BINARY, first_seen DATE, group INT"
)


def generate(
    spark: SparkSession, out: str | Path, size: ShopSize | None = None, seed: int = 1, start: date = START
) -> None:
    """Writes a shop of a size into a folder; what was there under the same names is replaced.

    Args:
        spark: the session whose workers draw users, sessions and photos.
        out: a folder that all workers see.
        size: how large; `ShopSize()` by default.
        seed: everything follows from it; it does not depend on the number of workers.
        start: the first day of traffic; the last one is ``start + size.days - 1``.
    """
    world, out = World(size or ShopSize(), seed), str(out)
    items = _blocks(spark, blocks(world), lambda block: draw_items(world, block, start), ITEMS)
    users = _blocks(
        spark, chunks(world), lambda chunk: draw_users(world, chunk)[["user_id", "profile", "group"]], USERS
    )
    midnight = int(datetime(start.year, start.month, start.day, tzinfo=UTC).timestamp())
    events = (
        _blocks(spark, chunks(world), lambda chunk: draw_events(world, chunk), EVENTS)
        .withColumn("event_time", F.timestamp_seconds(F.lit(midnight) + F.col("second")))
        .withColumn("event_order", F.col("event_order").cast("bigint"))
        .drop("second")
        .persist()
    )
    try:
        _write(events.drop("probability"), f"{out}/events.parquet")
        impressions = events.where(F.col("event_type") == "impression")
        _write(impressions.select("event_id", "probability"), f"{out}/truth/impressions_truth.parquet")
    finally:
        events.unpersist()
    _write(items.drop("group"), f"{out}/items.parquet")
    _write(users.drop("group"), f"{out}/users.parquet")
    # the groups again rather than from the frames above: drawing photos twice costs more
    truth = pd.DataFrame({"item_id": item_ids(np.arange(world.size.items)), "group": world.group})
    _write(spark.createDataFrame(truth, "item_id STRING, group INT"), f"{out}/truth/items_truth.parquet")
    _write(users.select("user_id", "group"), f"{out}/truth/users_truth.parquet")


def _blocks(spark: SparkSession, count: int, make: Callable[[int], pd.DataFrame], schema: str) -> DataFrame:
    """Rows of numbered blocks, drawn by the workers."""

    def rows(numbers: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for batch in numbers:
            yield from (make(int(number)) for number in batch["id"])

    partitions = min(count, BLOCKS_A_CORE * spark.sparkContext.defaultParallelism)
    return spark.range(0, count, 1, partitions).mapInPandas(rows, schema)


def _write(rows: DataFrame, path: str) -> None:
    rows.write.mode("overwrite").parquet(path)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line: one option for every field of `ShopSize`."""
    parser = argparse.ArgumentParser(description="Writes a synthetic shop with a planted truth.")
    parser.add_argument("--out", required=True, help="folder to write")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--start", type=date.fromisoformat, default=START, help="first day, YYYY-MM-DD")
    for field in fields(ShopSize):
        option = f"--{field.name.replace('_', '-')}"
        parser.add_argument(option, type=type(field.default), default=field.default, help="default %(default)s")
    options = vars(parser.parse_args(arguments))
    try:
        size = ShopSize(**{field.name: options[field.name] for field in fields(ShopSize)})
    except ValueError as error:
        parser.error(str(error))
    spark = spark_session(SparkConfig(), "shop")
    generate(spark, options["out"], size, options["seed"], options["start"])
    last = options["start"] + timedelta(days=size.days - 1)
    print(f"{options['out']}: {size.users} users, {size.items} items, {options['start']} to {last} (use --ds {last})")


if __name__ == "__main__":
    main()
