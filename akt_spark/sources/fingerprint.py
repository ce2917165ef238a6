"""Whether raw data has changed since a run read it."""

from __future__ import annotations

from datetime import date
from pathlib import Path

from akt_spark.config import Config, fingerprint
from akt_spark.sources.files import data_files
from akt_spark.sources.source import raw_files


def source_fingerprint(config: Config, ds: date) -> str:
    """A hash over paths, sizes and modification times (nanoseconds) of the raw files that ``ds`` reads.

    Raises:
        SourceError: when a file or folder of the source does not exist.
    """
    files = (file for path in raw_files(config.source, ds) for file in data_files(path))
    return fingerprint([_stamp(file) for file in files])


def _stamp(file: Path) -> tuple[str, int, int]:
    state = file.stat()
    return str(file), state.st_size, state.st_mtime_ns
