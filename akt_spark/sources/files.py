"""Raw files: found, and looked into before Spark is, so that a damaged file ends in a sentence and not in a stack."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

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
        raise SourceError(f"source.path {text}: a URI is not supported; mount it, and give the path that all workers see")
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
        schema = parquet.schema_arrow
        _require(file, schema.names, required)
        for field in schema:
            if pa.types.is_timestamp(field.type) and field.type.unit == "ns":
                raise SourceError(
                    f"{file}: column {field.name} holds nanoseconds, which Spark does not read;"
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
def readable(path: Path) -> Iterator[None]:
    """Turns Spark's complaints about files under a path, which come late and as stacks, into one sentence.

    Raises:
        SourceError: for a damaged page, which no footer tells of.
    """
    try:
        yield
    except SourceError:
        raise
    except Exception as error:
        text = str(error)
        if str(path) not in text or not any(failure in text for failure in READ_FAILURES):
            raise
        raise SourceError(f"{_named_file(text, path)} cannot be read ({_first_line(error)}); {AGAIN}") from error


def _require(file: Path, columns: Collection[str], required: Collection[str]) -> None:
    missing = [name for name in required if name not in columns]
    if missing:
        raise SourceError(
            f"{file} lacks the column {', '.join(missing)}; it has {', '.join(columns) or 'none'}: rename or add columns"
        )


def _named_file(text: str, path: Path) -> str:
    """The longest path in a message that starts with a folder's path."""
    return str(path) + text.split(str(path), 1)[1].split()[0].rstrip(".,:;'\")")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].strip().rstrip(".")[:300]
