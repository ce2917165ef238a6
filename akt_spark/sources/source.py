"""The configured source: the module that reads it, and its files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

from pyspark.sql import SparkSession

from akt_spark.config import Config
from akt_spark.config_sources import FolderSource, LogsSource, MovieLensSource
from akt_spark.sources import logs, movielens
from akt_spark.sources.files import existing, readable
from akt_spark.sources.raw import RawData


@contextmanager
def raw_data(spark: SparkSession, config: Config, ds: date) -> Iterator[RawData]:
    """What the configured source holds on a day; its files may be temporary, so use it inside the context.

    Raises:
        SourceError: raw files are missing, damaged or empty, or lack a column.
    """
    source = config.source
    with readable(raw_files(source, ds)):
        if isinstance(source, MovieLensSource):
            with movielens.unpacked(existing(source.path)) as folder:
                yield movielens.read(spark, folder, source, content_until=config.split.train_end(ds))
        else:
            yield logs.read(spark, _as_logs(source), ds)


def raw_files(source: MovieLensSource | FolderSource | LogsSource, ds: date) -> list[Path]:
    """Files and folders that a source reads on a day."""
    if isinstance(source, MovieLensSource):
        return movielens.raw_files(source)
    return logs.raw_files(_as_logs(source), ds)


def _as_logs(source: FolderSource | LogsSource) -> LogsSource:
    return logs.from_folder(source) if isinstance(source, FolderSource) else source
