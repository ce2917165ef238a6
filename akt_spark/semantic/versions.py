"""Codebooks as ``semantic.codebooks`` has them, and which of them readers use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime

from pyspark.sql import Row
from pyspark.sql import functions as F

from akt_spark.errors import MissingInput
from akt_spark.lake import Lake

CODEBOOKS = "semantic.codebooks"


@dataclass(frozen=True)
class Codebook:
    """A codebook as ``semantic.codebooks`` has it.

    Attributes:
        version: its version.
        kind: of the quantiser.
        path: folder of the quantiser: in this lake, not the recorded one, so that it holds when the lake has moved.
        sizes: codes a level.
        revision: the encoder whose vectors it was fitted on.
        config_hash: of the configuration that made it.
        fitted_ds: the day whose run fitted it.
        status: candidate, published or retired.
        promoted_at: when it was published last; None for one that never was.
        rolled_back: whether a person took it back.
        metrics: measures of the fit.
        fresh: whether this run fitted it.
        why: how this run found its sizes; None where they were configured.
    """

    version: str
    kind: str
    path: str
    sizes: tuple[int, ...]
    revision: str
    config_hash: str
    fitted_ds: date
    status: str
    promoted_at: datetime | None
    rolled_back: bool
    metrics: Mapping[str, float]
    fresh: bool = False
    why: str | None = None

    @classmethod
    def of(cls, row: Row, lake: Lake) -> Codebook:
        """From a row of the table."""
        return cls(
            version=row["codebook_version"],
            kind=row["quantizer"],
            path=str(lake.artifact("codebooks", row["entity"], row["codebook_version"])),
            sizes=tuple(row["sizes"]),
            revision=row["encoder_revision"],
            config_hash=row["config_hash"],
            fitted_ds=row["fitted_ds"],
            status=row["status"],
            promoted_at=row["promoted_at"],
            rolled_back=row["rolled_back_at"] is not None,
            metrics=row["metrics"] or {},
        )


def codebooks(lake: Lake, entity: str, version: int | None = None) -> dict[str, Codebook]:
    """All codebooks of ``item`` or ``user`` by their version, as of a version of the table."""
    lake.register(CODEBOOKS)
    rows = lake.read(CODEBOOKS, version).where(F.col("entity") == entity).collect()
    return {row["codebook_version"]: Codebook.of(row, lake) for row in rows}


def published(lake: Lake, entity: str) -> Codebook | None:
    """The published codebook; None before the first one."""
    return next((book for book in codebooks(lake, entity).values() if book.status == "published"), None)


def published_version(lake: Lake, entity: str) -> str:
    """The published codebook of ``item`` or ``user``: readers of ``semantic.<entity>_ids`` filter by it.

    Raises:
        MissingInput: when none is published yet.
    """
    book = published(lake, entity)
    if book is None:
        raise MissingInput(CODEBOOKS, "build_semantic_ids", f"has no published codebook of {entity}s")
    return book.version
