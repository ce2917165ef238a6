"""Rows that no kept run and no reader needs any more."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from delta.tables import DeltaTable
from pyspark.sql import Column
from pyspark.sql import functions as F

from akt_spark.config import MaintenanceConfig
from akt_spark.lake import Lake
from akt_spark.maintenance.policy import CHECKPOINTS, CODEBOOKS, Runs, dropped_codebooks, dropped_revisions


@dataclass(frozen=True)
class Removal:
    """Rows of a table to be removed, and why."""

    table: str
    rows: Column
    why: str

    def count(self, lake: Lake) -> int:
        """How many rows it would remove now."""
        return lake.read(self.table).where(self.rows).count()

    def apply(self, lake: Lake) -> None:
        """Removes them in one commit."""
        DeltaTable.forPath(lake.spark, lake.path(self.table)).delete(self.rows)


def removals(lake: Lake, runs: Runs, config: MaintenanceConfig) -> list[Removal]:
    """What the policy removes, in an order that may be cut off anywhere: what refers to a row goes before the row.

    Curves, gates, health, metrics and ``ops.runs`` stay for ever: they are small, and are what one compares nights by.
    """
    books = dropped_codebooks(lake, config.keep_codebooks)
    found = [*_of_runs(runs), *_of_codebooks(books), *_of_encoders(dropped_revisions(lake, runs, books))]
    return [removal for removal in found if lake.exists(removal.table)]


def _of_runs(runs: Runs) -> Iterator[Removal]:
    if runs.dropped:
        for table in ("serving.predictions", CHECKPOINTS):
            yield Removal(table, F.col("run_id").isin(*runs.dropped), f"of {len(runs.dropped)} runs no longer kept")


def _of_codebooks(dropped: list[tuple[str, str]]) -> Iterator[Removal]:
    for entity, version in dropped:
        book, why = F.col("codebook_version") == version, f"retired codebook {version} of {entity}s"
        yield Removal(f"semantic.{entity}_ids", book, why)
        compared = (F.col("from_version") == version) | (F.col("to_version") == version)
        yield Removal("semantic.churn", compared & (F.col("entity") == entity), why)
        # asked again at the commit: what another run published meanwhile stays
        yield Removal(CODEBOOKS, book & (F.col("entity") == entity) & (F.col("status") == "retired"), why)


def _of_encoders(dropped: set[str]) -> Iterator[Removal]:
    if dropped:
        for entity in ("item", "user"):
            rows = F.col("revision").isin(*dropped)
            yield Removal(f"content.{entity}_embeddings", rows, "vectors of encoders no longer in use")
