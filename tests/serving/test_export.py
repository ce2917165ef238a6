"""The folder that scores without Spark."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile

import pyarrow.parquet as pq
import pytest
from training.conftest import HISTORY

from akt_spark.errors import ConfigError
from akt_spark.serving import commands, export

from .conftest import NEXT_DAY, pairs_of

pytestmark = pytest.mark.night  # a lake and a training for them take a minute or two

WITHOUT = "import runpy, sys; sys.modules |= dict.fromkeys(['akt_spark', 'pyspark']); runpy.run_path(sys.argv.pop(1))"


@pytest.fixture(scope="module")
def exported(world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "ranker"
    lines = list(commands.export(world.ctx, folder))
    assert "akt_rec seed 1 of run 2024-01-20, 30 items and 20 users as of 2024-01-21 00:00 UTC" in lines[0]
    return folder


def test_the_example_gives_the_scores_of_the_job_without_spark_and_without_this_package(world, exported, tmp_path):
    lake = world.lake
    strangers = [lake.spark.createDataFrame([("nothing",)], f"{name}_id string") for name in ("user", "item")]
    users, items = (
        lake.read(f"features.{name}_index").select(f"{name}_id").union(more)
        for name, more in zip(("user", "item"), strangers, strict=True)
    )
    pairs = pairs_of(users, items, NEXT_DAY, tmp_path / "pairs")
    list(commands.score_requests(world.ctx, pairs, "compared"))
    command = [sys.executable, "-c", WITHOUT, str(exported / "example.py"), pairs, str(tmp_path / "scores.parquet")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found, expected = (
        {(row["user_id"], row["item_id"]): row["score"] for row in rows}
        for rows in (pq.read_table(tmp_path / "scores.parquet").to_pylist(), world.rows("serving.scores", "compared"))
    )
    assert found == pytest.approx(expected, abs=1e-5)
    assert len(found) == 21 * 31


def test_nothing_in_it_is_pickled(exported):
    files = {path.name for path in exported.iterdir()}
    assert files == {"model.pt2", "metadata.json", "items", "users", "example.py"}
    with zipfile.ZipFile(exported / "model.pt2") as archive:
        for name in archive.namelist():
            content = archive.read(name)
            assert not content.startswith((b"\x80\x02", b"\x80\x04", b"\x80\x05", b"PK")), name  # PK: torch.save


def test_its_metadata_say_what_it_is_and_what_it_reads(world, exported):
    about = json.loads((exported / "metadata.json").read_text())
    assert about["ranker"]["variant"] == "akt_rec" and about["ranker"]["model"]["dim"] == 4
    assert about["as_of"] == "2024-01-21T00:00:00+00:00"
    assert about["tables"]["training.items"] == world.lake.version("training.items")
    assert about["inputs"]["history"]["shape"] == ["batch", HISTORY]
    assert set(about["versions"]) == {"python", "akt-spark", "torch", "pyarrow", "numpy"}
    columns = {entity: set(pq.read_table(exported / f"{entity}s").column_names) for entity in ("user", "item")}
    for entity, names in columns.items():
        assert names == {f"{entity}_id", *about["unknown"][entity]}


def test_it_replaces_an_export_and_nothing_else(world, exported, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "program", lambda ranker, history_length: None)  # takes seconds, and is tested above
    monkeypatch.setattr(export, "save_program", lambda exported, path: path.write_text("another"))
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="exists and is no export"):
        list(commands.export(world.ctx, tmp_path))
    assert (tmp_path / "mine.txt").read_text() == "mine"
    (exported / "stale").touch()
    list(commands.export(world.ctx, exported))
    assert not (exported / "stale").exists() and (exported / "model.pt2").read_text() == "another"
