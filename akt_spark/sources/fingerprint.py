"""Whether raw data has changed since a run read it."""

from __future__ import annotations

from pathlib import Path

from akt_spark.config import Config, MovieLensSource, fingerprint
from akt_spark.sources import folder, movielens
from akt_spark.sources.files import data_files


def source_fingerprint(config: Config) -> str:
    """A hash over paths, sizes and modification times (nanoseconds) of the raw files.

    Raises:
        SourceError: when a file or folder of the source does not exist.
    """
    return fingerprint([_stamp(file) for path in raw_files(config) for file in data_files(path)])


def raw_files(config: Config) -> list[Path]:
    """Files and folders that the configured source reads."""
    source = config.source
    return movielens.raw_files(source) if isinstance(source, MovieLensSource) else folder.raw_files(source.path)


def _stamp(file: Path) -> tuple[str, int, int]:
    state = file.stat()
    return str(file), state.st_size, state.st_mtime_ns
