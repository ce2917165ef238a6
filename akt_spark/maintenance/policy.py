"""What the policy keeps: the newest runs, what they read and wrote, and what readers use now."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import date

from pyspark.sql import functions as F

from akt_spark.lake import Lake

RUNS, CHECKPOINTS, CODEBOOKS, ENCODERS = "ops.runs", "training.checkpoints", "semantic.codebooks", "content.encoders"


@dataclass(frozen=True)
class Runs:
    """The runs of a lake, as ``ops.runs`` has them.

    Attributes:
        kept: ids of those that last started a stage, and of the one with the newest rankers.
        dropped: ids of all others.
        first_day: the earliest closed day of the kept ones; None without any.
    """

    kept: frozenset[str]
    dropped: frozenset[str]
    first_day: date | None


def runs(lake: Lake, keep: int) -> Runs:
    """Which runs stay. A run of an old day that is done again counts as new: it is the start that counts."""
    if not lake.exists(RUNS):
        return Runs(frozenset(), frozenset(), None)
    started = lake.read(RUNS).groupBy("run_id").agg(F.max("started_at").alias("started"), F.min("ds").alias("ds"))
    rows = started.orderBy(F.desc("started"), F.desc("run_id")).collect()
    trained = set()
    if lake.exists(CHECKPOINTS):
        trained = {row[0] for row in lake.read(CHECKPOINTS).select("run_id").distinct().collect()}
    newest_trained = next((row["run_id"] for row in rows if row["run_id"] in trained), None)
    kept = [row for place, row in enumerate(rows) if place < keep or row["run_id"] == newest_trained]
    ids = frozenset(row["run_id"] for row in kept)
    return Runs(ids, frozenset(row["run_id"] for row in rows) - ids, min((row["ds"] for row in kept), default=None))


def pinned_versions(lake: Lake, kept: frozenset[str]) -> dict[str, set[int]]:
    """Versions of tables that kept runs read or wrote, or that their rankers were trained on."""
    pinned: dict[str, set[int]] = defaultdict(set)
    if lake.exists(RUNS):
        for row in lake.read(RUNS).where(F.col("run_id").isin(*kept)).select("inputs", "outputs").collect():
            for versions in row:
                for table, version in (versions or {}).items():
                    pinned[table].add(version)
    if lake.exists(CHECKPOINTS):
        names = ("samples", "items", "users")
        trained = lake.read(CHECKPOINTS).where(F.col("run_id").isin(*kept))
        for row in trained.select(*(f"{name}_version" for name in names)).distinct().collect():
            for name, version in zip(names, row, strict=True):
                pinned[f"training.{name}"].add(version)
    return pinned


def dropped_codebooks(lake: Lake, keep: int) -> list[tuple[str, str]]:
    """(entity, codebook_version) of retired codebooks but the newest ``keep`` of each entity."""
    if not lake.exists(CODEBOOKS):
        return []
    retired = lake.read(CODEBOOKS).where("status = 'retired'").select("entity", "codebook_version", "fitted_ds")
    newest_first = sorted(retired.collect(), key=lambda row: (row["fitted_ds"], row["codebook_version"]), reverse=True)
    by_entity: dict[str, list[str]] = defaultdict(list)
    for row in newest_first:
        by_entity[row["entity"]].append(row["codebook_version"])
    return [(entity, version) for entity, versions in sorted(by_entity.items()) for version in versions[keep:]]


def dropped_revisions(lake: Lake, kept: Runs, without: list[tuple[str, str]]) -> set[str]:
    """Encoder revisions whose vectors go.

    Those stay that were chosen on a day of a kept run or since, or last of all; those behind a codebook that stays;
    those that feed any of these; and those that ``content.encoders`` does not name (yet).

    Args:
        lake: the tables.
        kept: the runs.
        without: codebooks that do not stay.
    """
    if not lake.exists(ENCODERS) or kept.first_day is None:
        return set()
    rows = lake.read(ENCODERS).select("revision", "entity", "stage", "base_revision", "ds", "chosen_at", "status")
    rows = rows.orderBy("ds", "chosen_at").collect()
    last = {(row["entity"], row["stage"]): row["revision"] for row in rows if row["status"] == "registered"}
    needed = {row["revision"] for row in rows if row["ds"] >= kept.first_day} | set(last.values())
    if lake.exists(CODEBOOKS):
        books = lake.read(CODEBOOKS).select("entity", "codebook_version", "encoder_revision").collect()
        needed |= {row["encoder_revision"] for row in books if tuple(row)[:2] not in without}
    bases = {row["revision"]: row["base_revision"] for row in rows if row["base_revision"]}
    while feeding := {bases[revision] for revision in needed if revision in bases} - needed:
        needed |= feeding
    return {row["revision"] for row in rows} - needed
