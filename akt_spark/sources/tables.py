"""Raw files of any format to raw rows: every row with its columns as they are, its text, and what is wrong with it.

Files that do not agree are read apart: CSV files by their header line, so that daily files may have their columns in
another order, and Parquet files by their schema, so that a column may change its type from one day to the next.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from akt_spark.config_sources import TableSource
from akt_spark.errors import SourceError
from akt_spark.sources.files import ParquetSchema, data_files, parquet_schemas, require, resolve
from akt_spark.sources.raw import RAW, ROW_JSON, VERDICT, as_json
from akt_spark.sources.text import csv_headers, json_columns, read_csv, read_json

FORMATS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".parquet": "parquet",
}


@dataclass(frozen=True)
class Part:
    """Files of a table that agree on their columns.

    Attributes:
        path: one of the files, for messages, or the folder of a Delta table.
        columns: the names that the files have.
        rows: raw STRUCT (as the files have it), row_json STRING, verdict STRING (a line that cannot be taken apart).
    """

    path: Path
    columns: list[str]
    rows: DataFrame

    def has(self, name: str) -> bool:
        """Whether there is such a raw column."""
        return name in self.columns or name.partition(".")[0] in self.columns

    def field(self, name: str) -> Column:
        """A raw column; ``user.id`` also finds what is nested in JSON."""
        if name in self.columns:
            return F.col(RAW).getField(name)
        first, _, rest = name.partition(".")
        return F.get_json_object(F.col(RAW).getField(first), f"$.{rest}")


def read_parts(
    spark: SparkSession,
    table: TableSource,
    required: Collection[str],
    optional: Collection[str] = (),
    ds: date | None = None,
) -> list[Part]:
    """Reads the files of a table.

    Args:
        spark: the session.
        table: where and in which format they are.
        required: columns, in their names, without which the table is of no use.
        optional: columns that are taken where they are.
        ds: the day, where the path has a place for it.

    Raises:
        SourceError: files are missing, damaged or empty, or lack a column.
    """
    roots = resolve(table.path, ds)
    kind = table.format or _format(roots)
    if kind == "delta":
        return [_delta(spark, root, required) for root in roots]
    files = [file for root in roots for file in data_files(root)]
    if kind == "csv":
        return [
            Part(group[0], list(header.columns), read_csv(spark, group, header, table))
            for header, group in csv_headers(files, required, table).items()
        ]
    if kind == "json":
        found = json_columns(files, required, table)
        wanted = list(dict.fromkeys(n if n in found else n.partition(".")[0] for n in (*required, *optional)))
        return [Part(files[0], list(dict.fromkeys([*wanted, *found])), read_json(spark, files, wanted, table))]
    schemas = parquet_schemas(files, required, table.path)
    return [_parquet(spark, group, schema) for schema, group in schemas.items()]


def _format(roots: list[Path]) -> str:
    """What the files are, by what their names end in."""
    if any((root / "_delta_log").is_dir() for root in roots):
        return "delta"
    files = [file for root in roots for file in data_files(root)]
    endings = {Path(file.name.removesuffix(".gz")).suffix for file in files}
    formats = {FORMATS.get(ending, "") for ending in endings}
    if len(formats) != 1 or "" in formats:
        found = ", ".join(sorted(ending or "none" for ending in endings)) or "no files"
        raise SourceError(
            f"{roots[0]}: the format cannot be told from what the file names end in ({found});"
            " say format: csv, json, parquet or delta"
        )
    return formats.pop()


def _parquet(spark: SparkSession, files: list[Path], schema: ParquetSchema) -> Part:
    rows = spark.read.parquet(*map(str, files))
    for name, utc in schema.nanoseconds:  # which the session reads as integers
        time = F.timestamp_micros(F.expr(f"`{name}` div 1000"))
        rows = rows.withColumn(name, time if utc else time.cast("timestamp_ntz"))
    return Part(files[0], rows.columns, _with_raw(rows))


def _delta(spark: SparkSession, folder: Path, required: Collection[str]) -> Part:
    rows = spark.read.format("delta").load(str(folder))
    require(folder, rows.columns, required)
    return Part(folder, rows.columns, _with_raw(rows))


def _with_raw(rows: DataFrame) -> DataFrame:
    nothing = F.lit(None).cast("string").alias(VERDICT)
    return rows.select(F.struct("*").alias(RAW), as_json(rows).alias(ROW_JSON), nothing)
