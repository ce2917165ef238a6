"""The Parquet files behind a pinned version of a table, with their row counts."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from akt_spark.errors import DataError, MissingInput
from akt_spark.lake import Lake, Table, file_url


@dataclass(frozen=True)
class Block:
    """One Parquet file of one split: the unit that readers deal out and shuffle.

    Attributes:
        url: ``file:///...`` (not percent-encoded), ``hdfs://...`` and so on.
        rows: its exact row count.
        checksum: `checksum` of its rows.
    """

    url: str
    rows: int
    checksum: int


@dataclass(frozen=True)
class Split:
    """The blocks of ``train``, ``validation`` or ``test``, in the order of their names."""

    blocks: tuple[Block, ...]
    rows: int
    clicks: int


def pinned_splits(lake: Lake, version: int) -> dict[str, Split]:
    """The splits of one version of ``training.samples``, counted in one pass.

    Raises:
        MissingInput: when the table has no rows.
        DataError: when a plain Parquet reader would see other rows than Spark does, or a file mixes splits.
    """
    table = "training.samples"
    lake.require_plain_files(table)
    files = _count_files(lake.read(table, version)).collect()
    if not files:
        raise MissingInput(table, Table.load(table).writer, "is empty")
    urls = [file["url"] for file in files]
    mixed = sorted({url for url in urls if urls.count(url) > 1}) if len(set(urls)) < len(urls) else []
    if mixed:
        raise DataError(f"{table} version {version}: {mixed[0]} mixes splits; run jobs/build_samples.py again")
    return {name: _split([file for file in files if file["split"] == name]) for name in ("train", "validation", "test")}


def _count_files(samples: DataFrame) -> DataFrame:
    counted = samples.groupBy(F.input_file_name().alias("url"), "split")
    return counted.agg(
        F.count("*").alias("rows"),
        F.sum(F.crc32("sample_id")).alias("checksum"),
        F.sum("label").cast("long").alias("clicks"),
    ).orderBy("url")


def checksum(sample_ids: Iterable[str]) -> int:
    """What Spark's ``sum(crc32(sample_id))`` gives: of the rows, not of their order."""
    return sum(map(zlib.crc32, map(str.encode, sample_ids)))


def _split(files: list) -> Split:
    blocks = tuple(Block(file_url(file["url"]), file["rows"], file["checksum"]) for file in files)
    return Split(blocks, sum(block.rows for block in blocks), sum(file["clicks"] for file in files))
