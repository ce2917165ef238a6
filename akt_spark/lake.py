"""Delta tables declared in ``schemas/``: created, read at a version, and written so that a rerun changes nothing."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from string import Template
from typing import TypeVar
from urllib.parse import unquote

from delta.tables import DeltaTable
from py4j.java_gateway import JavaObject
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from akt_spark.errors import AktError, DataError, MissingInput

SCHEMAS = Path(__file__).resolve().parent.parent / "schemas"
CONFLICT_ATTEMPTS = 5
DELTA = "spark.databricks.delta"
LAST_COMMIT = f"{DELTA}.lastCommitVersionInSession"
NOTED_WITHIN = 50  # newest commits among which a note is looked for; maintenance adds commits without one
CONFLICT = re.compile(r"\b(Concurrent\w+|ProtocolChanged)Exception|DELTA_CONCURRENT_\w+")

T = TypeVar("T")


@dataclass(frozen=True)
class Table:
    """The declaration of one table, as its file in ``schemas/`` gives it."""

    name: str
    key: tuple[str, ...]
    writer: str
    sql: str

    @classmethod
    @cache
    def load(cls, name: str) -> Table:
        """Reads ``schemas/NAME.sql``."""
        sql = (SCHEMAS / f"{name}.sql").read_text()
        header = dict(re.findall(r"^-- (key|written by): (.+)$", sql, flags=re.MULTILINE))
        return cls(name, tuple(header["key"].split(", ")), header["written by"], sql)


def declared_tables() -> list[str]:
    """Names of all declared tables."""
    return sorted(path.stem for path in SCHEMAS.glob("*.sql"))


@dataclass(frozen=True)
class BuiltOn:
    """A commit whose rows were computed from a version of the table, with a note of what they hold.

    Attributes:
        version: where another such commit came after it, this one is a conflict, and is computed again by `retried`.
        note: JSON-like values, kept in the commit itself: `Lake.note` gives them back.
    """

    version: int
    note: Mapping[str, object] | None = None


class Lake:
    """The tables of one lake root, seen through one SparkSession."""

    def __init__(self, spark: SparkSession, root: str, pins: Mapping[str, int] | None = None) -> None:
        self.spark = spark
        self.root = root if "://" in root else str(Path(root).absolute())
        self.pins = dict(pins or {})
        self.committed: dict[str, int] = {}
        self._registered: set[str] = set()
        self._retrying = False

    def pinned(self, pins: Mapping[str, int]) -> Lake:
        """The same lake, in which some tables stand still at a version, whatever other writers commit."""
        lake = Lake(self.spark, self.root, {table: version for table, version in pins.items() if version >= 0})
        lake._registered = self._registered
        return lake

    def path(self, table: str) -> str:
        """Folder of a table."""
        schema, name = table.split(".")
        return f"{self.root}/{schema}/{name}"

    def artifact(self, *parts: str) -> Path:
        """A folder for models, beside the tables; every executor must see it under the same path."""
        return Path(self.root.removeprefix("file://"), "artifacts", *parts)

    def exists(self, table: str) -> bool:
        """Whether the table has been created."""
        return DeltaTable.isDeltaTable(self.spark, self.path(table))

    def register(self, table: str) -> None:
        """Creates the table if it is not there (or no longer), and names it in the session's catalog."""
        exists = self.exists(table)
        if table not in self._registered or not exists:
            self.spark.sql(f"CREATE SCHEMA IF NOT EXISTS {table.split('.')[0]}")
            if not exists or self.spark.conf.get("spark.sql.catalogImplementation") == "in-memory":
                # the name may stand for another lake's table, or for one whose folder was deleted; data stays
                self.spark.sql(f"DROP TABLE IF EXISTS {table}")
            if exists:  # as it is: a comment in schemas/ may be another since it was made
                self.spark.sql(f"CREATE TABLE IF NOT EXISTS {table} USING DELTA LOCATION '{self.path(table)}'")
            else:
                self.spark.sql(Template(Table.load(table).sql).substitute(location=self.path(table)))
            self._registered.add(table)

    def read(self, table: str, version: int | None = None) -> DataFrame:
        """Rows of a table: at the given version, else at that of the lake's pins, else the newest.

        Raises:
            MissingInput: when the table does not exist; it names the job that makes it.
        """
        if not self.exists(table):
            raise MissingInput(table, Table.load(table).writer)
        reader = self.spark.read.format("delta")
        version = self.pins.get(table) if version is None else version
        return (reader if version is None else reader.option("versionAsOf", version)).load(self.path(table))

    def read_rows(self, table: str, version: int | None = None) -> DataFrame:
        """Like `read`, but an empty table counts as missing too."""
        rows = self.read(table, version)
        if rows.isEmpty():
            raise MissingInput(table, Table.load(table).writer, "is empty")
        return rows

    def version(self, table: str) -> int:
        """Version of a table that `read` gives; -1 when it does not exist."""
        if table in self.pins:
            return self.pins[table]
        return self._snapshot(table).version() if self.exists(table) else -1

    def table_id(self, table: str) -> str:
        """What tells a table from another one that was created later in its place."""
        return self._snapshot(table).metadata().id()

    def note(self, table: str) -> dict[str, object] | None:
        """The note of the newest commit that has one; None without one among the last commits."""
        log = self._log(table)
        newest = self._snapshot(table).version()
        files = self.spark._jvm.org.apache.spark.sql.delta.util.FileNames
        for version in range(newest, max(newest - NOTED_WITHIN, -1), -1):
            # DeltaTable.history would start Spark jobs
            lines = log.store().read(files.unsafeDeltaFile(log.logPath(), version), log.newDeltaHadoopConf())
            commits = (lines.apply(place) for place in range(lines.size()))
            commit = next((json.loads(line)["commitInfo"] for line in commits if line.startswith('{"commitInfo"')), {})
            if "userMetadata" in commit:
                return json.loads(commit["userMetadata"])
        return None

    def inserted(self, table: str, first: int, last: int) -> DataFrame:
        """Rows that the versions ``first`` to ``last`` added; the table must keep a change feed.

        Raises:
            AktError: when these versions also removed or changed rows.
        """
        reader = self.spark.read.format("delta").option("readChangeFeed", "true")
        feed = reader.option("startingVersion", first).option("endingVersion", last).load(self.path(table))
        if not feed.where(F.col("_change_type") != "insert").isEmpty():
            raise AktError(f"rows of {table} were changed or removed between versions {first} and {last}")
        return feed.drop("_change_type", "_commit_version", "_commit_timestamp")

    def retried(self, table: str, work: Callable[[], T]) -> T:
        """Does a whole read-compute-write again when another writer committed in between, a bounded number of times.

        Writes inside ``work`` are not tried again on their own: their rows were computed from what is now out of date.

        Raises:
            AktError: when other writers kept committing; it names the conflict.
        """
        if self._retrying:
            return work()
        for attempt in range(1, CONFLICT_ATTEMPTS + 1):
            self._retrying = True
            try:
                return work()
            except Exception as error:
                conflict = CONFLICT.search(str(error))
                if conflict is None:
                    raise
                if attempt == CONFLICT_ATTEMPTS:
                    raise AktError(
                        f"{table}: another writer kept committing ({conflict.group(0)}, {attempt} attempts);"
                        " nothing was written; run the job again"
                    ) from error
            finally:
                self._retrying = False
            time.sleep(0.5 * attempt)
        raise AssertionError("the last attempt returns or raises")

    def overwrite(self, table: str, rows: DataFrame, where: str | None = None, on: BuiltOn | None = None) -> None:
        """Replaces a table, or its rows that satisfy ``where``, in one commit."""
        writer = self._conform(table, rows).write.format("delta").mode("overwrite")
        writer = writer.option("replaceWhere", where) if where else writer
        self._commit(table, lambda: writer.save(self.path(table)), on)

    def append(self, table: str, rows: DataFrame, on: BuiltOn | None = None) -> None:
        """Adds rows. Use `insert_new` or ``on`` where a rerun could add them twice."""
        writer = self._conform(table, rows).write.format("delta").mode("append")
        self._commit(table, lambda: writer.save(self.path(table)), on)

    def insert_new(self, table: str, rows: DataFrame, first_day: date | None = None) -> int:
        """Adds the rows whose key the table does not hold; no commit when there are none. Returns how many.

        The key must be unique in ``rows``. Of two writers at once, one looks again at what the other has added.

        Args:
            table: the table; all that add to it do so by this method.
            rows: rows to add.
            first_day: looks for known keys only in rows with ``ds`` from this day on, so as not to read all of a log.
        """
        conformed, key = self._conform(table, rows), list(Table.load(table).key)

        def work() -> int:
            version = self.version(table)
            present = self.read(table, version)
            present = (present.where(F.col("ds") >= F.lit(first_day)) if first_day else present).select(*key)
            missing = conformed.join(present, on=key, how="left_anti").persist()
            try:
                count = missing.count()
                if count:
                    self.append(table, missing, on=BuiltOn(version))
            finally:
                missing.unpersist()
            return count

        return self.retried(table, work)

    def merge(
        self,
        table: str,
        rows: DataFrame,
        on: BuiltOn | None = None,
        update: Mapping[str, Column] | None = None,
        inserts_only: bool = False,
    ) -> None:
        """Updates rows with a known key and inserts the others. The key must be unique in ``rows``.

        Args:
            table: the table.
            rows: rows in its columns.
            on: what they were computed from.
            update: columns that an update sets, from those of ``old`` and ``new``; by default all, to the new ones.
            inserts_only: leaves rows with a known key as they are. Where none is expected this is faster: Delta then
                neither keeps the new rows on the side nor looks for files to rewrite.
        """
        conformed = self._conform(table, rows)
        merge = self._delta(table).merge(conformed.alias("new"), _equal(Table.load(table).key))
        if not inserts_only:
            merge = merge.whenMatchedUpdate(set=dict(update)) if update else merge.whenMatchedUpdateAll()
        self._commit(table, merge.whenNotMatchedInsertAll().execute, on)

    def schema(self, table: str) -> StructType:
        """Declared columns of a table."""
        self.register(table)
        return DeltaTable.forPath(self.spark, self.path(table)).toDF().schema

    def files(self, table: str, version: int | None = None) -> list[str]:
        """URLs (`file_url`) of exactly the Parquet files that make up a table, at the version that `read` gives.

        Raises:
            MissingInput: when the table has no rows.
            DataError: when a plain Parquet reader would see other rows than Spark does.
        """
        self.require_plain_files(table)
        files = sorted(file_url(file) for file in self.read(table, version).inputFiles())
        if not files:
            raise MissingInput(table, Table.load(table).writer, "is empty")
        return files

    def require_plain_files(self, table: str) -> None:
        """Makes sure that a plain Parquet reader sees the rows that Spark sees, if the table is there.

        Raises:
            DataError: when it would not; it names the remedy.
        """
        if not self.exists(table):
            return
        features: Iterable[str] = self.spark.sql(f"DESCRIBE DETAIL delta.`{self.path(table)}`").head()["tableFeatures"]
        unsafe = sorted({"deletionVectors", "columnMapping"} & set(features))
        if unsafe:
            raise DataError(
                f"{table} at {self.path(table)} has {' and '.join(unsafe)}, which Parquet readers ignore: they would "
                "see deleted or misnamed values. Delete the table's folder and run "
                f"jobs/{Table.load(table).writer}.py again"
            )

    def _conform(self, table: str, rows: DataFrame) -> DataFrame:
        """Selects exactly the declared columns in their order; refuses missing or extra ones."""
        self.register(table)
        declared = self.schema(table)
        missing = sorted(set(declared.names) - set(rows.columns))
        extra = sorted(set(rows.columns) - set(declared.names))
        if missing or extra:
            raise AktError(
                f"rows for {table} do not fit its columns: missing {missing}, extra {extra}; where an earlier version "
                f"made the table (schemas/{table}.sql has other columns now), delete {self.path(table)} and run the "
                "night again, or give another lake.root"
            )
        return rows.select([F.col(field.name).cast(field.dataType) for field in declared])

    def _commit(self, table: str, write: Callable[[], None], on: BuiltOn | None = None) -> None:
        """Runs a write that makes one commit, and keeps the version that it made."""
        with self._settings(on):
            self.retried(table, write)
            committed = self.spark.conf.get(LAST_COMMIT, None)
        if committed is not None:
            self.committed[table] = int(committed)
        elif on is not None:  # Delta leaves out a transaction that it takes for a repetition
            raise AktError(f"{table}: DELTA_CONCURRENT_TRANSACTION after version {on.version}")

    @contextmanager
    def _settings(self, on: BuiltOn | None) -> Iterator[None]:
        """Session settings of a commit: the only way in which MERGE takes a transaction and a note."""
        settings = {LAST_COMMIT: None}
        if on is not None:
            # the number of a transaction must grow: one more than the version that the rows were computed from
            settings |= {f"{DELTA}.write.txnAppId": "akt_spark", f"{DELTA}.write.txnVersion": str(on.version + 1)}
            settings |= {f"{DELTA}.commitInfo.userMetadata": json.dumps(on.note)} if on.note else {}
        for key, value in settings.items():
            self.spark.conf.unset(key) if value is None else self.spark.conf.set(key, value)
        try:
            yield
        finally:
            for key in settings:
                self.spark.conf.unset(key)

    def _delta(self, table: str) -> DeltaTable:
        return DeltaTable.forPath(self.spark, self.path(table)).alias("old")

    def _log(self, table: str) -> JavaObject:
        log = self.spark._jvm.org.apache.spark.sql.delta.DeltaLog
        return log.forTable(self.spark._jsparkSession, self.path(table))

    def _snapshot(self, table: str) -> JavaObject:
        # DeltaTable.history starts Spark jobs (half a second); a night asks for many versions
        nothing = self.spark._jvm.scala.Option.empty()
        return self._log(table).update(False, nothing, nothing)


def _equal(key: Iterable[str]) -> str:
    return " AND ".join(f"old.{name} <=> new.{name}" for name in key)


def file_url(spark_file: str) -> str:
    """A file as Spark names it, with ``file:///...`` where it is local, and not percent-encoded: Spark encodes local
    names and writes ``file:/``; Parquet readers take names as they are."""
    if spark_file.startswith("file:"):
        return "file:///" + unquote(spark_file.removeprefix("file:").lstrip("/"))
    return spark_file
