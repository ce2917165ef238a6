"""An experiment on a night's lake: a run of its own, which leaves the night's as it was, and is not done twice."""

from __future__ import annotations

import shutil
from collections.abc import Callable
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
from akt_spark.jobs import experiment, tune

FILES = sorted((REPOSITORY / "conf/experiments").glob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_files_are_experiments_and_the_page_lists_them(file: Path) -> None:
    night = load(REPOSITORY / "conf/movielens_1m.yaml")
    config = load_experiment(file, night)
    of_rankers = len(config.training.seeds) >= 5 and len(config.ranker.variants) > 1
    assert of_rankers or config.ranker == night.ranker  # alone, or on top of another
    assert f"conf/experiments/{file.name}" in (REPOSITORY / "docs/experiments.md").read_text()


def test_other_sections_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text("semantic: {promotion: manual}")
    with pytest.raises(ConfigError, match=r"x\.yaml: sections semantic belong to the night.*samples, ranker"):
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


@pytest.fixture
def attempt(night: Night, spark: SparkSession, tmp_path: Path, capsys, monkeypatch) -> Callable[..., tuple]:
    """Runs a job of the page on a copy of the night's lake with two tiny rankers; (exit code, output, errors)."""
    monkeypatch.setattr(type(spark), "stop", lambda session: None)  # the job finds the session of the tests
    shutil.copytree(night.lake, tmp_path / "lake")
    values = {
        "ranker": {"variants": {"base": {"preset": "base"}, "din": {"preset": "din"}}},
        "training": {"seeds": [3], "epochs": 1, "batch_size": 256, "backend": "inline"},
        "tuning": {"grid": {"learning_rate": [0.001, 0.01]}},
        "evaluation": {"bootstrap": 20},
    }
    (tmp_path / "two.yaml").write_text(yaml.safe_dump(values))
    folders = ("--set", f"lake.root={tmp_path / 'lake'}", "--set", f"report.path={tmp_path / 'report'}")

    def attempt(job: Callable = experiment, files: tuple[str, ...] = ("two.yaml",), **options: str) -> tuple:
        options = {f"--{name}": value for name, value in options.items()}
        known = {"--conf-file": str(night.config), "--ds": DS} | options
        words = readme.command(f"spark-submit jobs/{job.__name__}.py", known, "docs/experiments.md")[2:]
        rest = [word for word in words if "conf/experiments" not in word]
        with pytest.raises(SystemExit) as end:
            job([*(str(tmp_path / file) for file in files), *rest, *folders])
        return end.value.code, *capsys.readouterr()

    return attempt


@pytest.mark.night
def test_an_experiment_has_a_run_of_its_own_and_is_not_done_twice(attempt, tmp_path: Path, monkeypatch) -> None:
    lake = tmp_path / "lake"
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

    code, _, errors = attempt(ds="2024-01-19")
    assert code == 3 and f"holds the samples of {DS}, not of 2024-01-19: run jobs/nightly.py" in errors


@pytest.mark.night
def test_an_experiment_on_other_samples_leaves_those_of_the_night_to_others(attempt, tmp_path: Path) -> None:
    assert attempt()[0] == 0
    (tmp_path / "drawn.yaml").write_text("samples: {negatives: popularity, positive_events: [click]}")
    code, shown, errors = attempt(files=("two.yaml", "drawn.yaml"))
    assert code == 0, errors
    assert "build_samples" in shown and "5 run, 0 skipped" in shown
    lake = tmp_path / "lake"
    metrics = rows(lake, "evaluation.metrics")
    counts = metrics[(metrics["slice"] == "all") & (metrics["metric"] == "n")].groupby("run_id")["value"].max()
    assert counts[f"{DS}-two"] == counts[DS] != counts[f"{DS}-two-drawn"]
    assert "0 run, 4 skipped" in attempt()[1]
    assert "0 run, 5 skipped" in attempt(files=("two.yaml", "drawn.yaml"))[1]


@pytest.mark.night
def test_tuning_writes_variants_that_an_experiment_takes(attempt, tmp_path: Path) -> None:
    code, shown, errors = attempt(tune, out=str(tmp_path / "tuned.yaml"))
    assert code == 0, errors
    assert "base: learning_rate 0.01; validation AUC" in shown or "base: learning_rate 0.001; validation AUC" in shown
    lake = tmp_path / "lake"
    trained = rows(lake, "training.checkpoints")
    trained = trained[trained["run_id"] == f"{DS}-two-tuning"]
    assert set(trained["variant"]) == {"base.0", "base.1", "din.0", "din.1"} and set(trained["seed"]) == {1}
    assert f"{DS}-two-tuning" not in set(rows(lake, "serving.predictions")["run_id"])  # the test is not looked at
    code, shown, errors = attempt(files=("two.yaml", "tuned.yaml"))
    assert code == 0, errors
    assert "4 run, 0 skipped" in shown
