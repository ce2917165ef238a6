"""Which codebook is published: promotion and rollback, each one commit to ``semantic.codebooks``.

Readers join ``semantic.<entity>_ids`` with the published row (``semantic.current_<entity>_ids``), so they see one
codebook or the other and never a mixture. Of two that decide at once, one wins and the other says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from pyspark.sql import Column
from pyspark.sql import functions as F

from akt_spark.errors import AktError, ConfigError, DataError
from akt_spark.lake import BuiltOn, Lake
from akt_spark.semantic.versions import CODEBOOKS, Codebook, codebooks

LIST = "jobs/semantic_ids.py list"


def promote(lake: Lake, entity: str, version: str, instead_of: str | None) -> None:
    """Publishes a codebook and retires the one that was published.

    Args:
        lake: the tables.
        entity: ``item`` or ``user``.
        version: a candidate or retired codebook.
        instead_of: the version that the caller saw published; None for none.

    Raises:
        ConfigError: when there is no such version.
        AktError: when another one has been published meanwhile, or other writers keep committing.
    """

    def work() -> None:
        at = _table_version(lake)
        books = codebooks(lake, entity, at)
        if version not in books:
            known = ", ".join(sorted(books)) or "none"
            raise ConfigError(f"{entity}s have no codebook {version}; there is: {known} ({LIST})")
        live = _live(books)
        if live == version:
            return  # another run has made and published the same
        if live != instead_of:
            raise AktError(
                f"codebook {version} of {entity}s was not published: {live or 'none'} is published now, and not "
                f"{instead_of or 'none'}: another run has promoted or rolled back; look at {LIST}, then run this again"
            )
        published = {"status": "published", "promoted_at": datetime.now(UTC), "rolled_back_at": None}
        _update(lake, entity, at, {version: published} | ({live: {"status": "retired"}} if live else {}))

    lake.retried(CODEBOOKS, work)


def rollback(lake: Lake, entity: str) -> tuple[str, str]:
    """Publishes again what was published before the present codebook; nights will not promote that one again.

    Returns:
        The version that was rolled back, and the one that is published now.

    Raises:
        DataError: when nothing is published, or nothing was published before.
        AktError: when other writers keep committing.
    """

    def work() -> tuple[str, str]:
        at = _table_version(lake)
        books = codebooks(lake, entity, at)
        live = _live(books)
        if live is None:
            raise DataError(f"no codebook of {entity}s is published; there is nothing to roll back ({LIST})")
        known_good = [book for book in books.values() if book.promoted_at and not book.rolled_back]
        earlier = [book for book in known_good if book.promoted_at < books[live].promoted_at]
        if not earlier:
            raise DataError(f"no codebook of {entity}s was published before {live}; it stays published ({LIST})")
        target = max(earlier, key=lambda book: book.promoted_at).version
        back = {"status": "retired", "rolled_back_at": datetime.now(UTC)}
        _update(lake, entity, at, {live: back, target: {"status": "published"}})
        return live, target

    return lake.retried(CODEBOOKS, work)


def _table_version(lake: Lake) -> int:
    lake.register(CODEBOOKS)
    return lake.version(CODEBOOKS)


def _live(books: Mapping[str, Codebook]) -> str | None:
    return next((version for version, book in books.items() if book.status == "published"), None)


def _update(lake: Lake, entity: str, at: int, changes: Mapping[str, Mapping[str, object]]) -> None:
    """Sets columns of some versions, in one commit that no other decision came before."""
    rows = lake.read(CODEBOOKS, at).where((F.col("entity") == entity) & F.col("codebook_version").isin(list(changes)))
    for name in ("status", "promoted_at", "rolled_back_at"):
        rows = rows.withColumn(name, _set(rows.schema[name].dataType.simpleString(), name, changes))
    lake.merge(CODEBOOKS, rows, on=BuiltOn(at))


def _set(kind: str, name: str, changes: Mapping[str, Mapping[str, object]]) -> Column:
    value = F.col(name)
    for version, columns in changes.items():
        if name in columns:
            value = F.when(F.col("codebook_version") == version, F.lit(columns[name]).cast(kind)).otherwise(value)
    return value
