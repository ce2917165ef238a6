"""Files of tables: small ones compacted, those of versions that nobody may read any more removed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import ceil
from pathlib import PurePosixPath
from urllib.parse import unquote

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from akt_spark.config import MaintenanceConfig
from akt_spark.lake import Lake, Table

# One split a file and files of equal size are what the readers and ranks of the trainer count on, and checkpoints name
# versions of all three: they are written whole every time, and stay as written.
AS_WRITTEN = ("training.samples", "training.items", "training.users")
OPTIMIZE = "spark.databricks.delta.optimize"
INVENTORY = "maintenance_inventory"
# VACUUM would log its start and end as two versions of the table, and stages that read it would run again
QUIET = {"spark.databricks.delta.vacuum.logging.enabled": "false"}


@dataclass(frozen=True)
class Size:
    """How much something is on disk."""

    files: int
    bytes: int


def live(lake: Lake, table: str) -> Size:
    """Files of the newest version."""
    detail = lake.spark.sql(f"DESCRIBE DETAIL delta.`{lake.path(table)}`").head()
    return Size(detail["numFiles"], detail["sizeInBytes"])


def clustering(table: str) -> list[str]:
    """The columns by which the declaration of a table says it is clustered."""
    found = re.search(r"^-- clustered by: (.+)$", Table.load(table).sql, flags=re.MULTILINE)
    return found.group(1).split(", ") if found else []


def needs_compaction(table: str, size: Size, config: MaintenanceConfig) -> bool:
    """Whether a table has ``small_files`` more files than its bytes fill: so compacting twice does nothing twice."""
    filled = ceil(size.bytes / _bytes(config))
    return table not in AS_WRITTEN and size.files - filled >= config.small_files


def compact(lake: Lake, table: str, config: MaintenanceConfig) -> None:
    """Rewrites a table in files of ``file_mb``, clustered as declared, in one commit that changes no row.

    Plain Z-order, not liquid clustering, and no deletion vectors: any Parquet reader of a version's file list goes on.
    """
    order = clustering(table)
    zorder = f" ZORDER BY ({', '.join(order)})" if order else ""
    size = str(_bytes(config))
    with _settings(lake.spark, {f"{OPTIMIZE}.maxFileSize": size, f"{OPTIMIZE}.minFileSize": size}):
        lake.spark.sql(f"OPTIMIZE delta.`{lake.path(table)}`{zorder}")


def vacuum(lake: Lake, table: str, pinned: Iterable[int], retention_hours: int, dry_run: bool) -> Size:
    """Removes files that neither the newest version, nor a pinned one, nor any of the last hours needs.

    VACUUM alone keeps what was live within the retention. A longer retention is no way to keep a version pinned before:
    Delta forgets which files were removed when after ``delta.deletedFileRetentionDuration`` (a week), and takes them
    for leftovers of failed writes then. So VACUUM is told which files it may look at at all: an inventory without those
    of pinned versions. A version whose log entry Delta has cleaned (``delta.logRetentionDuration``, 30 days) can no
    longer be read, and pins nothing. What runs now reads versions that were the newest when it started: the retention
    covers it for a week.

    Returns:
        What was removed, or would be.
    """
    since = datetime.now(UTC) - timedelta(hours=retention_hours)
    old = _untouched(lake, table, since)
    current = _names(lake.read(table, lake.version(table)))
    candidates = {name: file for name, file in old.items() if name not in current}
    for version in _readable(lake, table, pinned) if candidates else ():
        needed = _names(lake.read(table, version))
        candidates = {name: file for name, file in candidates.items() if name not in needed}
    if not candidates:
        return Size(0, 0)
    files = [(path, length, False, modified) for path, length, modified in candidates.values()]
    schema = "path string, length bigint, isDir boolean, modificationTime bigint"
    lake.spark.createDataFrame(files, schema).createOrReplaceTempView(INVENTORY)
    statement = (
        f"VACUUM delta.`{lake.path(table)}` USING INVENTORY (SELECT * FROM {INVENTORY}) RETAIN {retention_hours} HOURS"
    )
    with _settings(lake.spark, QUIET):
        if dry_run:
            gone = {_name(row[0]) for row in lake.spark.sql(f"{statement} DRY RUN").collect()}
        else:
            lake.spark.sql(statement)
            gone = candidates.keys() - _untouched(lake, table, since).keys()
    lake.spark.catalog.dropTempView(INVENTORY)
    return Size(len(gone), sum(candidates[name][1] for name in gone))


@contextmanager
def _settings(spark: SparkSession, settings: Mapping[str, str]) -> Iterator[None]:
    before = {key: spark.conf.get(key, None) for key in settings}
    for key, value in settings.items():
        spark.conf.set(key, value)
    try:
        yield
    finally:
        for key, value in before.items():
            spark.conf.unset(key) if value is None else spark.conf.set(key, value)


def _bytes(config: MaintenanceConfig) -> int:
    return config.file_mb * 1024 * 1024


def _untouched(lake: Lake, table: str, since: datetime) -> dict[str, tuple[str, int, int]]:
    """(path, length, modification time in ms) by name of the data files on disk last modified before a time."""
    listing = lake.spark.read.format("binaryFile").option("recursiveFileLookup", "true")
    listing = listing.option("pathGlobFilter", "*.parquet").option("modifiedBefore", f"{since:%Y-%m-%dT%H:%M:%S}")
    files = listing.load(lake.path(table)).select("path", "length", F.unix_millis("modificationTime").alias("modified"))
    return {_name(row["path"]): tuple(row) for row in files.collect()}


def _readable(lake: Lake, table: str, versions: Iterable[int]) -> list[int]:
    """Those of the versions that can still be put together from the log."""
    jvm = lake.spark._jvm
    log = jvm.org.apache.spark.sql.delta.DeltaLog.forTable(lake.spark._jsparkSession, lake.path(table))
    first = log.history().getEarliestRecreatableCommit()
    return [version for version in sorted(versions) if version >= first]


def _names(rows: DataFrame) -> set[str]:
    return {_name(file) for file in rows.inputFiles()}


def _name(path: str) -> str:
    """The last part of a path: Delta gives every file a name of its own, but paths are encoded in several ways."""
    return PurePosixPath(unquote(path)).name
