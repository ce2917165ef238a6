"""Raw files: found, and looked into before Spark is, so that a damaged file ends in a sentence and not in a stack."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException

from akt_spark.errors import SourceError

AGAIN = "it is truncated or damaged: copy or download it again"
READ_FAILURES = ("FAILED_READ_FILE", "CANNOT_READ_FILE_FOOTER", "ParquetDecodingException", "not a Parquet file")


def existing(path: str | Path) -> Path:
    """The path of a raw file or folder.

    Raises:
        SourceError: when there is none, or when it is a URI: workers read raw data under a mounted path.
    """
    text = str(path).removeprefix("file://")
    if "://" in text:
        raise SourceError(
            f"source.path {text}: a URI is not supported; mount it, and give the path that all workers see"
        )
    found = Path(text).absolute()
    if not found.exists():
        raise SourceError(f"source.path: {found} does not exist; give an existing path by --set source.path=PATH")
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
    rows = 0
    for file in data_files(path):
        try:
            parquet = pq.ParquetFile(file)
        except (pa.ArrowInvalid, OSError) as error:
            raise SourceError(f"{file} is not a readable Parquet file ({_first_line(error)}); {AGAIN}") from None
        _require(file, parquet.schema_arrow.names, required)
        for column in parquet.schema:
            if "nanoseconds" in str(column.logical_type):
                raise SourceError(
                    f"{file}: column {column.path} holds nanoseconds, which Spark does not read;"
                    " write it in microseconds (pandas: to_parquet(..., coerce_timestamps='us'))"
                )
        rows += parquet.metadata.num_rows
    if rows == 0:
        raise SourceError(f"{path} has no rows; there is nothing to work on: check what wrote it")
    return path


def check_csv(path: Path, required: Collection[str]) -> Path:
    """Looks at the header of a CSV file and at its first row.

    Raises:
        SourceError: naming the file or the column, and the remedy.
    """
    if not path.exists():
        raise SourceError(f"{path} does not exist; the source needs it with the columns {', '.join(required)}")
    with path.open(encoding="utf-8", newline="", errors="replace") as lines:
        reader = csv.reader(lines)
        _require(path, next(reader, []), required)
        if next(reader, None) is None:
            raise SourceError(f"{path} has no rows; there is nothing to work on: check what wrote it")
    return path


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


def _require(file: Path, columns: Collection[str], required: Collection[str]) -> None:
    missing = [name for name in required if name not in columns]
    if missing:
        found = ", ".join(columns) or "none"
        raise SourceError(f"{file} lacks the column {', '.join(missing)}; it has {found}: rename or add columns")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].strip().rstrip(".")[:300]
