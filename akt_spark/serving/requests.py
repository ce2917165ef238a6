"""Tables that people bring: files of any format that ingest reads, judged row by row, rejected rows in quarantine."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import reduce
from pathlib import Path
from typing import ClassVar

from pyspark import StorageLevel
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from akt_spark.config import fingerprint
from akt_spark.config_sources import TableSource
from akt_spark.errors import ConfigError, DataError
from akt_spark.sources.accounts import Tally, quarantine, tally
from akt_spark.sources.files import readable, resolve
from akt_spark.sources.raw import ROW_JSON, VERDICT
from akt_spark.sources.tables import read_parts
from akt_spark.sources.typed import typed
from akt_spark.sources.validate import judge_requests
from akt_spark.stage import Context


class PairsSource(TableSource):
    """Pairs of a user and an item, each at a moment; times without an offset are UTC."""

    TYPES: ClassVar[dict[str, str]] = {"user_id": "string", "item_id": "string", "event_time": "timestamp"}
    REQUIRED: ClassVar[tuple[str, ...]] = tuple(TYPES)


class CandidatesSource(TableSource):
    """Items to choose from: the same for all users, or with ``user_id`` those of each user."""

    TYPES: ClassVar[dict[str, str]] = {"user_id": "string", "item_id": "string"}
    REQUIRED: ClassVar[tuple[str, ...]] = ("item_id",)


class AskedUsersSource(TableSource):
    """The users to choose for."""

    TYPES: ClassVar[dict[str, str]] = {"user_id": "string"}
    REQUIRED: ClassVar[tuple[str, ...]] = tuple(TYPES)


SOURCES: dict[str, type[TableSource]] = {
    "requests": PairsSource,
    "candidates": CandidatesSource,
    "users": AskedUsersSource,
}


@contextmanager
def asked(ctx: Context, kind: str, path: str) -> Iterator[tuple[DataFrame, Tally]]:
    """The distinct accepted rows of a table that somebody brings, and what became of all its rows.

    The rows are kept on disk until the block ends: they are read once, and counted and used several times.

    Args:
        ctx: its ``run_id`` is the request, under which rejected rows are in the quarantine.
        kind: ``requests``, ``candidates`` or ``users``.
        path: file, folder, glob or Delta table.

    Raises:
        SourceError: files are missing, damaged or empty, or lack a column.
        DataError: no row can be accepted.
    """
    with readable(resolve(path)):
        judged = _judged(ctx.spark, SOURCES[kind].model_construct(path=path)).persist(StorageLevel.DISK_ONLY)
        try:
            accounts = tally({kind: judged})[kind]
            quarantine(ctx, {kind: judged}, accounts.quarantined)
            if not accounts.accepted:
                why = "; ".join(f"{count:,} {reason}" for reason, count in accounts.rejected.items())
                raise DataError(f"{path}: no row of {kind} can be used: {why} (see bronze.quarantine)")
            yield judged.where(F.col(VERDICT).isNull()).drop(VERDICT, ROW_JSON).distinct(), accounts
        finally:
            judged.unpersist()


def request_id(given: str | None, path: str, *identity: object) -> str:
    """The id that a person gave, or one that the same request gets again: the file's name and a hash of the rest.

    Raises:
        ConfigError: when the given id holds other characters than a query can quote as they are.
    """
    if given is not None and not re.fullmatch(r"[\w.-]+", given):
        raise ConfigError(f"--request-id '{given}': write letters, digits, '_', '.' and '-' only")
    name = re.sub(r"[^\w.-]+", "_", Path(path).stem)
    return given or f"{name}-{fingerprint(str(Path(path).absolute()), *identity)[:8]}"


def _judged(spark: SparkSession, source: TableSource) -> DataFrame:
    parts = read_parts(spark, source, source.REQUIRED, list(source.TYPES))
    rows = reduce(DataFrame.union, [typed(part, source) for part in parts])
    absent = [name for name in source.TYPES if not any(part.has(name) for part in parts)]
    return judge_requests(rows.drop(*absent))
