"""Hyper-parameters from validation: the same trainings for every variant, and a file that says what they found."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from pyspark.sql import SparkSession

from akt_spark import tuning
from akt_spark.conf_file import load, load_experiment
from akt_spark.config import Config
from akt_spark.errors import ConfigError
from akt_spark.lake import Lake

EXPERIMENT = {
    "ranker": {"model": {"dim": 8}, "variants": {"base": {"preset": "base"}, "din": {"preset": "din", "dropout": 0.5}}},
    "training": {"seeds": [1, 2, 3, 4, 5]},
    "tuning": {"grid": {"learning_rate": [1e-3, 1e-2], "dropout": [0.0, 0.2]}, "seeds": [7, 8]},
    "evaluation": {"reference": "base"},
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "two.yaml"
    path.write_text(yaml.safe_dump(EXPERIMENT, sort_keys=False))
    return path


@pytest.fixture
def config(file: Path) -> Config:
    return load_experiment(file, load(None))


def test_every_variant_is_trained_at_every_point_with_the_seeds_of_tuning(config: Config) -> None:
    grid = tuning.with_grid(config)
    assert len(grid.ranker.variants) == 2 * 4 and grid.training.seeds == [7, 8]
    for name in ("base", "din"):
        models = [grid.ranker.variant(f"{name}.{number}") for number in range(4)]
        assert {(model.learning_rate, model.dropout) for model in models} == {
            *((1e-3, 0.0), (1e-3, 0.2), (1e-2, 0.0), (1e-2, 0.2))
        }
        rest = [model.model_dump(exclude={"learning_rate", "dropout"}) for model in models]
        assert all(one == config.ranker.variant(name).model_dump(exclude={"learning_rate", "dropout"}) for one in rest)


def test_the_file_has_what_validation_prefers_on_average_over_seeds(
    spark: SparkSession, lake: Lake, file: Path, config: Config
) -> None:
    found = {"base": [(0.7, 0.7), (0.5, 1.0), (0.5, 0.5), (0.75, 0.75)], "din": [(0.6, 0.6)] * 4}
    rows = [
        {"run_id": run, "variant": f"{name}.{number}", "seed": seed, "metrics": {"validation_auc": auc + better}}
        for run, better in (("tuned", 0.0), ("another", 0.125))
        for name, aucs in found.items()
        for number, of_seeds in enumerate(aucs)
        for seed, auc in zip((7, 8), of_seeds, strict=True)
    ]
    empty = {
        "step": 1,
        "epoch": 1,
        "path": "p",
        "config_hash": "h",
        "parameters": 1,
        "seconds": 1.0,
        "samples": 1,
        "peak_gib": 1.0,
    }
    empty |= {f"{table}_version": 0 for table in ("samples", "items", "users")}
    rows = spark.createDataFrame([empty | row for row in rows], lake.schema("training.checkpoints"))
    lake.overwrite("training.checkpoints", rows)

    chosen = tuning.choices(lake, "tuned", config)
    assert chosen["base"].values == {"learning_rate": 1e-3, "dropout": 0.2}  # .75, as the last; the earlier one
    assert (chosen["base"].auc, chosen["base"].worst) == pytest.approx((0.75, 0.5))
    assert chosen["din"].values == {"learning_rate": 1e-3, "dropout": 0.0}
    text = tuning.tuned_experiment(config, chosen)
    assert "# Written by jobs/tune.py: of 8 trainings a variant" in text and "#   base: 0.7500, 0.5000" in text
    (file.parent / "tuned.yaml").write_text(text)
    tuned = load_experiment(file.parent / "tuned.yaml", config)
    assert tuned.ranker.variants["base"] == {"preset": "base", "learning_rate": 1e-3, "dropout": 0.2}
    assert tuned.ranker.variants["din"] == {"preset": "din", "learning_rate": 1e-3, "dropout": 0.0}
    assert tuned.model_dump(exclude={"ranker": {"variants"}}) == config.model_dump(exclude={"ranker": {"variants"}})


def test_a_grid_that_is_no_model_is_refused(config: Config) -> None:
    wrong = config.model_copy(update={"tuning": config.tuning.model_copy(update={"grid": {"droput": [0.1]}})})
    with pytest.raises(
        ConfigError, match=r"tuning\.grid: variants\.base\.0: droput=0\.1: .*keys of ranker\.model: dim"
    ):
        tuning.with_grid(wrong)
