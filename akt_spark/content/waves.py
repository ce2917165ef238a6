"""Rows cut into waves, each of which is read, encoded and committed by itself."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from uuid import uuid4

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from akt_spark.lake import Lake

FOLDER = "waves"


@contextmanager
def in_waves(lake: Lake, rows: DataFrame, count: int, alike: Sequence[str], name: str) -> Iterator[list[DataFrame]]:
    """Cuts rows into ``count`` waves of about one size.

    More than one wave is written down first, in one pass, as each of them would read all of the catalogue again. What
    was written goes when the block ends; `maintenance` removes what a killed run leaves.

    Args:
        lake: where they are written, under ``artifacts/waves``.
        rows: the rows.
        count: how many waves; none where there are no rows.
        alike: columns; rows that are equal in them come into one wave.
        name: a folder for what belongs together.
    """
    if count <= 1:
        yield [rows] * count
        return
    folder = lake.artifact(FOLDER, name, uuid4().hex)
    try:
        cut = rows.withColumn("wave", F.pmod(F.xxhash64(*alike), F.lit(count)).cast("int")).repartition("wave")
        cut.write.partitionBy("wave").parquet(f"file://{folder}")
        written = lake.spark.read.parquet(f"file://{folder}")
        yield [written.where(F.col("wave") == wave).drop("wave") for wave in range(count)]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
