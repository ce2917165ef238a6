"""Maintenance removes what the policy says, and nothing that a kept run, a codebook in use or a reader needs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from akt_spark.config import MaintenanceConfig
from akt_spark.lake import Lake
from akt_spark.maintenance.maintain import maintain

pytestmark = pytest.mark.night  # three nights of commits, and VACUUM over all of them

NOW = datetime(2024, 3, 1, 4, tzinfo=UTC)
NIGHTS = [date(2024, 2, day) for day in range(1, 4)]
KEEP = 2
# no retention: what a week would wait for happens now
POLICY = MaintenanceConfig(keep_runs=KEEP, keep_codebooks=1, small_files=2).model_copy(update={"retention_hours": 0})
SETTINGS = {
    "spark.databricks.delta.retentionDurationCheck.enabled": "false",
    "spark.sql.sources.parallelPartitionDiscovery.parallelism": "2",  # of VACUUM, here over a handful of files
}


@dataclass(frozen=True)
class Old:
    """A lake after three nights, and what a reader of the first kept night saw."""

    lake: Lake
    pinned: dict[str, int]
    seen: dict[str, list]


def night(lake: Lake, number: int) -> dict[str, int]:
    """What a night leaves: a row more in one table, and another table written anew."""
    rows = lake.spark.createDataFrame
    lake.append("features.item_index", rows([(f"i{number}", number + 1)], "item_id string, idx int"))
    lake.overwrite("features.user_index", rows([("u", number + 1)], "user_id string, idx int"))
    return {table: lake.version(table) for table in ("features.item_index", "features.user_index")}


def record(number: int, ds: date, versions: dict[str, int]) -> dict:
    started = NOW + timedelta(days=number)
    row = {
        "run_id": ds.isoformat(),
        "stage": "ingest",
        "ds": ds,
        "status": "done",
        "fingerprint": "f",
        "code_revision": "c",
    }
    row |= {"config": "{}", "inputs": {}, "outputs": versions, "rows_in": 1, "rows_out": 1, "quarantined": 0}
    return row | {"seconds": 1.0, "notes": [], "error": None, "started_at": started}


def models(lake: Lake) -> None:
    """Rankers of every night, and codebooks: two retired, one published, one candidate; each with its folder."""

    def write(table: str, rows: list[dict]) -> None:
        lake.overwrite(table, lake.spark.createDataFrame(rows, lake.schema(table)))

    def folder(*parts: str) -> Path:
        path = lake.artifact(*parts)
        path.mkdir(parents=True)
        (path / "weights").write_bytes(b"0" * 1000)
        return path

    trained = {"variant": "base", "seed": 1, "step": 1, "epoch": 1, "config_hash": "h", "parameters": 1, "seconds": 1.0}
    trained |= {"samples": 1, "peak_gib": 1.0}
    trained |= {f"{name}_version": 0 for name in ("samples", "items", "users")}
    scored = {"variant": "base", "seed": 1, "sample_id": "s", "user_idx": 1, "item_idx": 1, "label": 0.0, "score": 0.5}
    paths = {ds.isoformat(): folder("rankers", ds.isoformat(), "base", "model") for ds in NIGHTS}
    folder("rankers", NIGHTS[-1].isoformat(), "killed")
    write("training.checkpoints", [trained | {"run_id": run, "path": str(path)} for run, path in paths.items()])
    write("serving.predictions", [scored | {"run_id": run} for run in paths])
    states = ["retired"] * 2 + ["published", "candidate"]
    book = {"entity": "item", "quantizer": "rqvae", "sizes": [4], "config_hash": "h"}
    books = [
        book
        | {"codebook_version": f"b{n}", "status": status, "fitted_ds": NIGHTS[0] + timedelta(days=n)}
        | {"path": str(folder("codebooks", "item", f"b{n}")), "encoder_revision": "shared" if n == 2 else f"e{n}"}
        for n, status in enumerate(states)
    ]
    folder("codebooks", "item", "killed")
    folder("alignments", "item", "killed")
    folder("waves", "raw-encoder", "killed")
    folder("candidates", "request", "killed")
    write("semantic.codebooks", books)
    ids = {"item_id": "i", "sid": "1", "codes": [1], "offset_codes": [1], "distance": 0.0}
    ids |= {"margin": 1.0, "content_hash": "h"}
    ids |= {"assigned_ds": NIGHTS[0]}
    write("semantic.item_ids", [ids | {"codebook_version": book["codebook_version"]} for book in books])
    encoder = {"entity": "item", "stage": "aligned", "family": "f", "dim": 1, "config_hash": "h"}
    encoder |= {"status": "registered"}
    chosen = {name: 0 for name in ("e0", "e1", "shared", "e3", "unused")} | {"of a kept run": 1, "newest": 2}
    write(
        "content.encoders",
        [
            encoder
            | {"revision": name, "base_revision": f"raw of {name}"}
            | {"ds": NIGHTS[n], "chosen_at": NOW + timedelta(days=n)}
            for name, n in chosen.items()
        ]
        + [
            encoder
            | {"revision": f"raw of {name}", "stage": "raw", "ds": NIGHTS[0]}
            | {"chosen_at": NOW + timedelta(minutes=n)}
            for n, name in enumerate(chosen)
        ],
    )
    vector = {"item_id": "i", "content_hash": "h", "vector": [1.0]}
    bases = [*(f"raw of {name}" for name in chosen), "not registered yet"]
    write("content.item_embeddings", [vector | {"revision": name} for name in [*chosen, *bases]])


@pytest.fixture(scope="module")
def old(spark, tmp_path_factory) -> Iterator[Old]:
    lake = Lake(spark, str(tmp_path_factory.mktemp("maintenance") / "lake"))
    versions = [night(lake, number) for number in range(len(NIGHTS))]
    records = [record(number, *night) for number, night in enumerate(zip(NIGHTS, versions, strict=True))]
    lake.append("ops.runs", spark.createDataFrame(records, lake.schema("ops.runs")))
    models(lake)
    pinned = versions[-KEEP]
    for key, value in SETTINGS.items():
        spark.conf.set(key, value)
    yield Old(lake, pinned, {table: read(lake, table, version) for table, version in pinned.items()})
    for key in SETTINGS:
        spark.conf.unset(key)


def read(lake: Lake, table: str, version: int | None = None) -> list:
    return sorted(tuple(row) for row in lake.read(table, version).collect())


def everything(lake: Lake) -> dict[str, int]:
    """All files under the lake with their sizes."""
    files = (file for file in Path(lake.root).rglob("*") if file.is_file())
    return {str(file): file.stat().st_size for file in files}


@pytest.fixture(scope="module")
def maintained(old) -> Iterator[dict]:
    """A dry run, a run that is killed after the rows, one that finishes, and one more, in this order."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("akt_spark.maintenance.maintain.declared_tables", lambda: list(old.pinned))  # files of two tables
        yield runs(old)


def runs(old: Old) -> dict:
    before = everything(old.lake)
    dry = list(maintain(old.lake, POLICY, dry_run=True))
    after_dry = everything(old.lake)
    killed = []
    for line in maintain(old.lake, POLICY):
        if "no table names it" in line:
            break
        killed.append(line)
    finished = list(maintain(old.lake, POLICY))
    after = everything(old.lake)
    again = list(maintain(old.lake, POLICY))
    return {
        "before": before,
        "dry": dry,
        "after dry": after_dry,
        "lines": killed + finished,
        "after": after,
        "again": again,
        "after again": everything(old.lake),
    }


def test_a_dry_run_lists_what_would_go_and_changes_nothing(maintained):
    assert maintained["after dry"] == maintained["before"]
    listed = "\n".join(maintained["dry"])
    for part in ("training.checkpoints: 1 rows", "serving.predictions: 1 rows", "codebooks/item/b0", "compacted"):
        assert part in listed


def test_versions_of_kept_runs_read_the_same_rows_and_older_ones_are_gone(old, maintained):
    for table, version in old.pinned.items():
        assert read(old.lake, table, version) == old.seen[table]
    assert len(read(old.lake, "features.item_index")) == len(NIGHTS)
    with pytest.raises(Exception, match=r"FILE_NOT_EXIST|FileNotFound|does not exist"):
        read(old.lake, "features.user_index", old.pinned["features.user_index"] - 1)


def test_rankers_and_predictions_of_kept_runs_stay_with_their_folders(old, maintained):
    kept = {ds.isoformat() for ds in NIGHTS[-KEEP:]}
    for table in ("training.checkpoints", "serving.predictions"):
        assert {row[0] for row in read(old.lake, table)} == kept
    assert {path.name for path in old.lake.artifact("rankers").iterdir()} == kept
    assert not old.lake.artifact("rankers", NIGHTS[-1].isoformat(), "killed").exists()


def test_published_codebooks_candidates_and_the_newest_retired_stay(old, maintained):
    kept = {"b1", "b2", "b3"}
    assert {row["codebook_version"] for row in old.lake.read("semantic.codebooks").collect()} == kept
    assert {row["codebook_version"] for row in old.lake.read("semantic.item_ids").collect()} == kept
    assert {path.name for path in old.lake.artifact("codebooks", "item").iterdir()} == kept
    assert not any(old.lake.artifact("alignments", "item").iterdir())
    assert not any(old.lake.artifact("waves", "raw-encoder").iterdir())
    assert not any(old.lake.artifact("candidates", "request").iterdir())


def test_vectors_stay_while_a_kept_run_a_codebook_or_another_encoder_needs_them(old, maintained):
    kept = {row["revision"] for row in old.lake.read("content.item_embeddings").collect()}
    needed = {"e1", "shared", "e3", "of a kept run", "newest"}
    assert kept == needed | {f"raw of {name}" for name in needed} | {"not registered yet"}


def test_a_killed_run_is_finished_by_the_next_and_one_more_changes_nothing(maintained):
    assert maintained["after"] != maintained["before"]
    assert maintained["after again"] == maintained["after"]
    assert maintained["again"] == ["runs: 2 kept, 1 no longer kept"]


def test_compaction_leaves_one_file_that_any_parquet_reader_can_read(old, maintained):
    assert len(old.lake.read("features.item_index").inputFiles()) == 1
    assert old.lake.version("features.item_index") == len(NIGHTS) + 1  # VACUUM makes no version
    old.lake.require_plain_files("features.item_index")


def test_nothing_is_kept_for_less_than_a_week():
    with pytest.raises(ValueError, match="greater than or equal to 168"):
        MaintenanceConfig(retention_hours=24)
