"""An experiment on a night's lake: a run of its own, which leaves the night's as it was, and is not done twice."""

from __future__ import annotations

import shutil
from pathlib import Path

import deltalake
import pandas as pd
import pytest
import readme
import yaml
from jobs_night import DS, REPOSITORY, Night
from pyspark.sql import SparkSession

from akt_spark.conf_file import load, load_experiment
from akt_spark.errors import ConfigError
from akt_spark.jobs import experiment

FILES = sorted((REPOSITORY / "conf/experiments").glob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_files_are_experiments_and_the_page_lists_them(file: Path) -> None:
    config = load_experiment(file, load(REPOSITORY / "conf/movielens_1m.yaml"))
    assert len(config.training.seeds) >= 5 and len(config.ranker.variants) > 1
    assert f"conf/experiments/{file.name}" in (REPOSITORY / "docs/experiments.md").read_text()


def test_other_sections_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text("semantic: {promotion: manual}")
    with pytest.raises(ConfigError, match=r"x\.yaml: sections semantic belong to the night.*ranker, training"):
        load_experiment(file, load(None))


def rows(lake: Path, table: str) -> pd.DataFrame:
    return deltalake.DeltaTable(str(lake.joinpath(*table.split(".")))).to_pandas()


def recorded(lake: Path, folder: Path, metrics: pd.DataFrame) -> None:
    """What benchmarks/experiments.py keeps of the experiment is what the tables say, and a page can be made of it."""
    import experiments
    import experiments_page

    assert experiments.Experiments(str(lake), DS).names() == ["two"]
    with pytest.raises(SystemExit, match="has no experiment of 2024-01-19"):
        experiments.Experiments(str(lake), "2024-01-19").names()
    found = list(experiments.Experiments(str(lake), DS).rows("two"))
    facts, *others = found
    assert (facts["reference"], facts["variants"], facts["seeds"]) == ("base", ["base", "din"], [3])
    assert facts["training"] == {"epochs": 1, "batch_size": 256, "ranks": 2, "backend": "inline"}
    value = metrics.set_index(["variant", "slice", "metric"])["value"]
    assert facts["samples"]["test"] == value["din", "all", "n"]
    assert facts["positives"]["test"] == value["din", "all", "positives"]
    values = {(r["variant"], r["slice"], r["metric"]): r["value"] for r in others if r["part"] == "value"}
    assert values["din", "tail", "auc"] == pytest.approx(value["din", "tail", "auc"], abs=1e-6)
    (tail,) = (
        r
        for r in others
        if r["part"] == "difference" and (r["variant"], r["slice"], r["metric"]) == ("din", "tail", "auc")
    )
    assert tail["difference"] == pytest.approx(value["din", "tail", "auc"] - value["base", "tail", "auc"], abs=1e-5)
    checkpoints = rows(lake, "training.checkpoints").set_index(["run_id", "variant"]).loc[f"{DS}-two"]
    costs = {r["variant"]: r for r in others if r["part"] == "cost"}
    assert {name: cost["parameters"] for name, cost in costs.items()} == dict(checkpoints["parameters"])
    assert costs["din"]["peak_gib"] == pytest.approx(checkpoints.loc["din", "peak_gib"], abs=1e-4)
    named = {"code": "c", "ds": DS, "note": "", "machine": {"cores": 2, "memory_gib": 1.0}}
    (folder / "experiments_shop.json").write_text(experiments.text(named | {"rows": found}))
    assert "### shop: two" in experiments_page.Page(folder).text


def test_an_experiment_has_a_run_of_its_own_and_is_not_done_twice(
    night: Night, spark: SparkSession, tmp_path: Path, capsys, monkeypatch
) -> None:
    monkeypatch.setattr(type(spark), "stop", lambda session: None)  # the job finds the session of the tests
    lake = tmp_path / "lake"
    shutil.copytree(night.lake, lake)
    values = {
        "ranker": {"variants": {"base": {"preset": "base"}, "din": {"preset": "din"}}},
        "training": {"seeds": [3], "epochs": 1, "batch_size": 256, "backend": "inline"},
        "evaluation": {"bootstrap": 20},
    }
    (tmp_path / "two.yaml").write_text(yaml.safe_dump(values))
    command = readme.command(
        "spark-submit jobs/experiment.py",
        {"--conf-file": str(night.config), "--ds": DS},
        "docs/experiments.md",
    )

    def attempt(*more: str) -> tuple[int, str, str]:
        words = [str(tmp_path / "two.yaml") if "conf/experiments" in word else word for word in command[2:]]
        folders = ("--set", f"lake.root={lake}", "--set", f"report.path={tmp_path / 'report'}")
        with pytest.raises(SystemExit) as end:
            experiment([*words, *folders, *more])
        return end.value.code, *capsys.readouterr()

    before = rows(lake, "evaluation.metrics")
    code, shown, errors = attempt()
    assert code == 0, errors
    assert "4 run, 0 skipped" in shown and "din" in shown
    metrics = rows(lake, "evaluation.metrics")
    of_run = metrics[metrics["run_id"] == f"{DS}-two"]
    assert set(of_run["variant"]) == {"base", "din"} and set(of_run["seed"]) == {3}
    assert len(metrics) == len(before) + len(of_run)
    assert (tmp_path / "report/experiments/two/index.html").is_file()

    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
    recorded(lake, tmp_path, of_run)

    assert "0 run, 4 skipped" in attempt()[1]
    assert len(rows(lake, "evaluation.metrics")) == len(metrics)

    code, _, errors = attempt("--ds", "2024-01-19")
    assert code == 3 and f"holds the samples of {DS}, not of 2024-01-19: run jobs/nightly.py" in errors
