"""CSV files and JSON lines, line by line: a line that cannot be taken apart keeps its text and gets a verdict.

Spark's own CSV reader matches columns by place, ignores a quote that is never closed, and loses the text of a damaged
line when columns are pruned; so lines are read as text and taken apart by ``from_csv`` and ``from_json``.
"""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from akt_spark.config_sources import TableSource
from akt_spark.errors import SourceError
from akt_spark.sources.files import AGAIN, require
from akt_spark.sources.raw import RAW, ROW_JSON, VERDICT

BROKEN = "__broken_line"
UNDECODED = "\ufffd"  # what a decoder leaves where bytes make no character
SAMPLED_LINES = 1000


@dataclass(frozen=True)
class Header:
    """The first line of CSV files and the columns that it names; no line where the configuration names them."""

    line: str | None
    columns: tuple[str, ...]


def csv_headers(files: Collection[Path], required: Collection[str], table: TableSource) -> dict[Header, list[Path]]:
    """The files that hold something, by their header.

    Raises:
        SourceError: a file cannot be opened or lacks a column, or no file has a row.
    """
    groups: dict[Header, list[Path]] = {}
    rows = 0
    for file in files:
        first, *more = _first_lines(file, table, 2) or [""]
        header = Header(None, tuple(table.names)) if table.names else Header(first, _split(first, file, table))
        if first:
            _check_names(file, header.columns, required)
            groups.setdefault(header, []).append(file)
        rows += len(more) + bool(table.names and first)
    if not rows:
        raise SourceError(f"{table.path} has no rows; there is nothing to work on: check what wrote it")
    return groups


def read_csv(spark: SparkSession, files: Collection[Path], header: Header, table: TableSource) -> DataFrame:
    """Rows of files with one header; lines that repeat it (joined files) are skipped."""
    options = _options(next(iter(files)), table)
    schema = _schema([*header.columns, BROKEN])
    if options.get("multiLine", "").lower() == "true":
        reader = spark.read.options(**options, encoding=table.encoding, header=header.line is not None)
        rows = reader.option("columnPruning", False).csv([str(file) for file in files], schema=schema)
        rows = rows.select(F.struct("*").alias(RAW))
        text = F.coalesce(F.col(RAW)[BROKEN], F.to_json(RAW))
        return _with_verdict(rows.withColumn("text", text), header.columns, F.lit(False))
    lines = _lines(spark, files, table)
    if header.line is not None:
        lines = lines.where(F.col("text") != header.line)
    quote, escape, text = options["quote"], options["escape"], F.col("text")
    open_quote = F.lit(False)
    if quote and quote == escape:
        open_quote = (F.length(text) - F.length(F.replace(text, F.lit(quote), F.lit("")))) % 2 == 1
    rows = lines.withColumn(RAW, F.from_csv(text, schema, options))
    return _with_verdict(rows, header.columns, open_quote)


def json_columns(files: Collection[Path], required: Collection[str], table: TableSource) -> list[str]:
    """The keys of the first lines.

    Raises:
        SourceError: a file cannot be opened, no file has a line, or a required key is in none of the first lines.
    """
    keys: dict[str, None] = {}
    lines = 0
    for file in files:
        for line in _first_lines(file, table, SAMPLED_LINES - lines):
            lines += 1
            try:
                keys |= dict.fromkeys(json.loads(line))
            except (ValueError, TypeError):
                continue  # the rows of this line are judged later
        if lines >= SAMPLED_LINES:
            break
    if not lines:
        raise SourceError(f"{table.path} has no rows; there is nothing to work on: check what wrote it")
    require(next(iter(files)), keys, {name if name in keys else name.partition(".")[0] for name in required})
    return list(keys)


def read_json(spark: SparkSession, files: Collection[Path], columns: Collection[str], table: TableSource) -> DataFrame:
    """Rows of JSON lines, their values as text (of what is nested, its JSON)."""
    parsed = F.from_json("text", _schema([*columns, BROKEN]), {"columnNameOfCorruptRecord": BROKEN})
    return _with_verdict(_lines(spark, files, table).withColumn(RAW, parsed), columns, F.lit(False))


def _lines(spark: SparkSession, files: Collection[Path], table: TableSource) -> DataFrame:
    """text: every line that is not blank."""
    value = F.col("value")
    utf8 = table.encoding.upper().replace("-", "") == "UTF8"
    text = F.make_valid_utf8(value) if utf8 else F.decode(value.cast("binary"), table.encoding)
    return spark.read.text([str(file) for file in files]).select(text.alias("text")).where(F.trim("text") != "")


def _with_verdict(rows: DataFrame, columns: Collection[str], damaged: Column) -> DataFrame:
    """From raw and text to raw, row_json and verdict; the raw row of a damaged line is its text."""
    raw, text = F.col(RAW), F.col("text")
    verdict = (
        F.when(raw[BROKEN].isNotNull() | raw.isNull() | damaged, "line malformed")
        .when(text.contains(UNDECODED), "text is not in the encoding of the file")
        .alias(VERDICT)
    )
    fields = F.struct(*[raw.getField(name).alias(name) for name in columns])
    row_json = F.when(verdict.isNull(), F.to_json(fields)).otherwise(F.to_json(F.struct(text.alias("line"))))
    return rows.select(F.when(verdict.isNull(), fields).alias(RAW), row_json.alias(ROW_JSON), verdict)


def _first_lines(file: Path, table: TableSource, count: int) -> list[str]:
    """At most so many lines that are not blank."""
    encoding = "utf-8-sig" if table.encoding.upper() == "UTF-8" else table.encoding
    opener = gzip.open if file.suffix == ".gz" else open
    try:
        with opener(file, "rt", encoding=encoding, errors="replace") as lines:
            return list(islice(_not_blank(lines), count))
    except LookupError:
        raise SourceError(f"{file}: encoding {table.encoding} is unknown; write UTF-8 or, say, ISO-8859-1") from None
    except (OSError, EOFError) as error:
        raise SourceError(f"{file} cannot be read ({error}); {AGAIN}") from None


def _not_blank(lines: IO[str]) -> Iterable[str]:
    return (line.rstrip("\r\n") for line in lines if line.strip())


def _split(line: str, file: Path, table: TableSource) -> tuple[str, ...]:
    options = _options(file, table)
    if len(options["sep"]) > 1:
        return tuple(line.split(options["sep"]))
    return tuple(next(csv.reader([line], delimiter=options["sep"]), []))


def _check_names(file: Path, names: Collection[str], required: Collection[str]) -> None:
    twice = [name for name in names if sum(name.lower() == other.lower() for other in names) > 1]
    if twice:
        raise SourceError(f"{file} has several columns named {twice[0]}; rename all but one")
    require(file, names, required)


def _options(file: Path, table: TableSource) -> dict[str, str]:
    given = dict(table.options)
    tabs = Path(file.name.removesuffix(".gz")).suffix == ".tsv"
    sep = given.pop("sep", given.pop("delimiter", "\t" if tabs else ","))
    return {"quote": '"', "escape": '"', **given, "sep": sep, "mode": "PERMISSIVE", "columnNameOfCorruptRecord": BROKEN}


def _schema(names: Iterable[str]) -> str:
    return ", ".join(f"`{name.replace('`', '``')}` STRING" for name in names)
