"""Raw files: found, and looked into before Spark is, so that a damaged file ends in a sentence and not in a stack."""

from __future__ import annotations

import glob
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException

from akt_spark.errors import SourceError

AGAIN = "it is truncated or damaged: copy or download it again"
READ_FAILURES = ("FAILED_READ_FILE", "CANNOT_READ_FILE_FOOTER", "ParquetDecodingException", "not a Parquet file")


@dataclass(frozen=True)
class ParquetSchema:
    """What Parquet files must agree on to be read together.

    Attributes:
        types: column and type, as Arrow writes it.
        nanoseconds: columns of times in nanoseconds, and whether they are UTC or without a time zone.
    """

    types: tuple[tuple[str, str], ...]
    nanoseconds: tuple[tuple[str, bool], ...]


def existing(path: str | Path) -> Path:
    """The path of a raw file or folder.

    Raises:
        SourceError: when there is none, or when it is a URI: workers read raw data under a mounted path.
    """
    text = str(path).removeprefix("file://")
    if "://" in text:
        raise SourceError(f"source: {text}: a URI is not supported; mount it, and give the path that all workers see")
    found = Path(text).absolute()
    if not found.exists():
        raise SourceError(f"source: {found} does not exist; correct the path in the configuration (or by --set)")
    return found


def resolve(path: str, ds: date | None = None) -> list[Path]:
    """The files and folders that a path stands for: itself, those of the day ``ds``, or what a glob matches.

    Raises:
        SourceError: when there is none, naming the path and the day.
    """
    text = path.format(ds=ds) if ds else path
    if not glob.has_magic(text):
        try:
            return [existing(text)]
        except SourceError as error:
            if text == path:
                raise
            raise SourceError(f"{error}; it is {path} for --ds {ds}: has the day been delivered?") from None
    found = [Path(match).absolute() for match in sorted(glob.glob(text, recursive=True))]
    if not found:
        day = f" ({path} for --ds {ds}): has the day been delivered?" if text != path else "; correct the path"
        raise SourceError(f"source: no file matches {text}{day}")
    return found


def data_files(path: Path) -> list[Path]:
    """The files behind a table: itself, or what lies in its folder less markers such as _SUCCESS."""
    if path.is_file():
        return [path]
    return sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith(("_", ".")))


def check_parquet(path: Path, required: Collection[str]) -> Path:
    """Looks at the footers of a Parquet file or folder: readable, with the columns, with rows.

    Raises:
        SourceError: naming the file or the column, and the remedy.
    """
    if not path.exists():
        raise SourceError(f"{path} does not exist; the source needs it with the columns {', '.join(required)}")
    parquet_schemas(data_files(path), required, str(path))
    return path


def parquet_schemas(files: Collection[Path], required: Collection[str], path: str) -> dict[ParquetSchema, list[Path]]:
    """Files by their schema, from their footers.

    Raises:
        SourceError: a file is damaged, lacks a column or has nested nanoseconds, or no file has a row.
    """
    schemas: dict[ParquetSchema, list[Path]] = {}
    rows = 0
    for file in files:
        try:
            parquet = pq.ParquetFile(file)
        except (pa.ArrowInvalid, OSError) as error:
            raise SourceError(f"{file} is not a readable Parquet file ({_first_line(error)}); {AGAIN}") from None
        require(file, parquet.schema_arrow.names, required)
        types = tuple((field.name, str(field.type)) for field in parquet.schema_arrow)
        schemas.setdefault(ParquetSchema(types, tuple(_nanoseconds(file, parquet))), []).append(file)
        rows += parquet.metadata.num_rows
    if rows == 0:
        raise SourceError(f"{path} has no rows; there is nothing to work on: check what wrote it")
    return schemas


def _nanoseconds(file: Path, parquet: pq.ParquetFile) -> Iterator[tuple[str, bool]]:
    for column in parquet.schema:
        kind = str(column.logical_type)
        if "nanoseconds" in kind and column.path not in parquet.schema_arrow.names:
            raise SourceError(f"{file}: column {column.path} holds nested nanoseconds; write it in microseconds")
        if kind.startswith("Timestamp") and "nanoseconds" in kind:
            yield column.path, "isAdjustedToUTC=true" in kind


@contextmanager
def readable(paths: Collection[Path]) -> Iterator[None]:
    """Turns Spark's complaints about raw files, which come late and as stacks, into one sentence.

    Raises:
        SourceError: for a damaged page, which no footer tells of.
    """
    try:
        yield
    except (PySparkException, Py4JJavaError) as error:  # pyspark leaves exceptions that it does not know to py4j
        text = str(error)
        damaged = next((word for word in text.split() if any(str(path) in word for path in paths)), None)
        failure = next((failure for failure in READ_FAILURES if failure in text), None)
        if damaged is None or failure is None:
            raise
        file = damaged.removeprefix("file://").rstrip(".,:;'\")")
        why = text[text.index(failure) :].splitlines()[0][:200]
        raise SourceError(f"{file} cannot be read ({why}); {AGAIN}") from error


def require(file: Path, columns: Collection[str], required: Collection[str]) -> None:
    """Raises a SourceError that names what is missing and what is there."""
    missing = [name for name in required if name not in columns]
    if missing:
        found = ", ".join(columns) or "none"
        raise SourceError(
            f"{file} lacks the column {', '.join(missing)}; it has {found}: rename or add columns,"
            " or say in the configuration what they are called (source.*.columns)"
        )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].strip().rstrip(".")[:300]
