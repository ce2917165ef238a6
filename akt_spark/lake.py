"""Delta tables declared in ``schemas/``: created, read at a version, and written so that a rerun changes nothing."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from string import Template

from delta.tables import DeltaTable
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from akt_spark.errors import AktError, MissingInput

SCHEMAS = Path(__file__).resolve().parent.parent / "schemas"
CONFLICT_RETRIES = 5


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


class Lake:
    """The tables of one lake root, seen through one SparkSession."""

    def __init__(self, spark: SparkSession, root: str) -> None:
        self.spark = spark
        self.root = root if "://" in root else str(Path(root).absolute())
        self._registered: set[str] = set()

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
            self.spark.sql(Template(Table.load(table).sql).substitute(location=self.path(table)))
            self._registered.add(table)

    def read(self, table: str, version: int | None = None) -> DataFrame:
        """Rows of a table, at a pinned version if one is given.

        Raises:
            MissingInput: when the table does not exist; it names the job that makes it.
        """
        if not self.exists(table):
            raise MissingInput(table, Table.load(table).writer)
        reader = self.spark.read.format("delta")
        return (reader if version is None else reader.option("versionAsOf", version)).load(self.path(table))

    def read_rows(self, table: str, version: int | None = None) -> DataFrame:
        """Like `read`, but an empty table counts as missing too."""
        rows = self.read(table, version)
        if rows.isEmpty():
            raise MissingInput(table, Table.load(table).writer, "is empty")
        return rows

    def version(self, table: str) -> int:
        """Newest version of a table; -1 when it does not exist."""
        if not self.exists(table):
            return -1
        # DeltaTable.history starts Spark jobs (half a second); a night asks for many versions
        jvm = self.spark._jvm
        log = jvm.org.apache.spark.sql.delta.DeltaLog.forTable(self.spark._jsparkSession, self.path(table))
        return log.update(False, jvm.scala.Option.empty(), jvm.scala.Option.empty()).version()

    def overwrite(self, table: str, rows: DataFrame, where: str | None = None) -> None:
        """Replaces a table, or its rows that satisfy ``where``, in one commit."""
        writer = self._conform(table, rows).write.format("delta").mode("overwrite")
        writer = writer.option("replaceWhere", where) if where else writer
        self._commit(table, lambda: writer.save(self.path(table)))

    def append(self, table: str, rows: DataFrame) -> None:
        """Adds rows. Use `insert_new` where a rerun could add them twice."""
        conformed = self._conform(table, rows)
        self._commit(table, lambda: conformed.write.format("delta").mode("append").save(self.path(table)))

    def insert_new(self, table: str, rows: DataFrame) -> int:
        """Adds the rows whose key the table does not hold; no commit when there are none. Returns how many.

        The key must be unique in ``rows``. Two writers that insert the same key: one commits, the other is tried again
        and then finds nothing to add.
        """
        conformed, declared = self._conform(table, rows), Table.load(table)
        condition = " AND ".join(f"old.{key} <=> new.{key}" for key in declared.key)

        def missing() -> DataFrame:
            return conformed.join(self.read(table).select(*declared.key), on=list(declared.key), how="left_anti")

        count = missing().count()
        if count:
            merge = (
                DeltaTable.forPath(self.spark, self.path(table)).alias("old").merge(conformed.alias("new"), condition)
            )
            self._commit(table, merge.whenNotMatchedInsertAll().execute)
        return count

    def merge(self, table: str, rows: DataFrame) -> None:
        """Updates rows with a known key and inserts the others. The key must be unique in ``rows``."""
        conformed = self._conform(table, rows)
        condition = " AND ".join(f"old.{key} <=> new.{key}" for key in Table.load(table).key)
        merge = DeltaTable.forPath(self.spark, self.path(table)).alias("old").merge(conformed.alias("new"), condition)
        self._commit(table, merge.whenMatchedUpdateAll().whenNotMatchedInsertAll().execute)

    def _conform(self, table: str, rows: DataFrame) -> DataFrame:
        """Selects exactly the declared columns in their order; refuses missing or extra ones."""
        self.register(table)
        declared = self.schema(table)
        missing = sorted(set(declared.names) - set(rows.columns))
        extra = sorted(set(rows.columns) - set(declared.names))
        if missing or extra:
            raise AktError(f"rows for {table} do not fit schemas/{table}.sql: missing {missing}, extra {extra}")
        return rows.select([F.col(field.name).cast(field.dataType) for field in declared])

    def schema(self, table: str) -> StructType:
        """Declared columns of a table."""
        self.register(table)
        return DeltaTable.forPath(self.spark, self.path(table)).toDF().schema

    def _commit(self, table: str, write: Callable[[], None]) -> None:
        """Runs a write, again when another writer committed in between, a bounded number of times."""
        for attempt in range(1, CONFLICT_RETRIES + 1):
            try:
                return write()
            except Exception as error:
                conflict = re.search(r"\b(Concurrent\w+|ProtocolChanged)Exception|DELTA_CONCURRENT_\w+", str(error))
                if conflict is None:
                    raise
                if attempt == CONFLICT_RETRIES:
                    raise AktError(
                        f"{table}: another writer kept committing ({conflict.group(0)}); run the job again"
                    ) from error
                time.sleep(0.5 * attempt)
        return None


def unsafe_for_parquet_readers(spark: SparkSession, path: str) -> list[str]:
    """Table features with which a plain Parquet reader would see wrong rows."""
    features: Iterable[str] = spark.sql(f"DESCRIBE DETAIL delta.`{path}`").head()["tableFeatures"]
    return sorted({"deletionVectors", "columnMapping"} & set(features))
