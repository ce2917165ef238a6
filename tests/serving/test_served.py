"""Which ranker serves."""

from __future__ import annotations

import pytest
from evaluation.lakes import write

from akt_spark.config import FeaturesConfig, ServingConfig
from akt_spark.errors import ConfigError, MissingInput
from akt_spark.serving import served as served_module
from akt_spark.serving.served import served


@pytest.fixture(scope="module")
def trained(spark, tmp_path_factory):
    """Two nights and an experiment on the newer one."""
    lake = served_module.Lake(spark, str(tmp_path_factory.mktemp("trained")))
    rankers = [
        ("2024-01-19", "base", 1, 0.9),
        ("2024-01-20", "base", 1, 0.6),
        ("2024-01-20", "akt_rec", 1, 0.7),
        ("2024-01-20", "akt_rec", 2, 0.8),
        ("2024-01-20-main", "din", 1, 0.95),
    ]
    names = ("run_id", "variant", "seed")
    rows = [dict(zip(names, ranker, strict=False)) | {"metrics": {"validation_auc": ranker[3]}} for ranker in rankers]
    write(lake, "training.checkpoints", rows)
    return lake


@pytest.mark.parametrize(
    ("asked", "chosen"),
    [
        ({}, ("2024-01-20", "akt_rec", 2)),
        ({"seed": 1}, ("2024-01-20", "akt_rec", 1)),
        ({"variant": "base"}, ("2024-01-20", "base", 1)),
        ({"run": "2024-01-19"}, ("2024-01-19", "base", 1)),
        ({"run": "2024-01-20-main"}, ("2024-01-20-main", "din", 1)),
    ],
)
def test_the_best_of_the_newest_night_serves_unless_another_is_configured(trained, asked, chosen):
    row = served_module._chosen(trained, ServingConfig(**asked))
    assert (row.run_id, row.variant, row.seed) == chosen


def test_a_ranker_that_is_not_there_is_named_beside_those_that_are(trained):
    with pytest.raises(ConfigError, match=r"serving.variant din, serving.seed 2; it has akt_rec seed 1, .*base seed 1"):
        served_module._chosen(trained, ServingConfig(variant="din", seed=2))
    with pytest.raises(MissingInput, match=r"run 2024-02-01 \(serving.run\): run jobs/train_ranker"):
        served_module._chosen(trained, ServingConfig(run="2024-02-01"))


def test_without_a_training_the_job_that_makes_one_is_named(context):
    with pytest.raises(MissingInput, match=r"jobs/train_ranker\.py"):
        served(context)


@pytest.mark.night
def test_features_are_those_of_the_samples_whatever_the_configuration_says_now(world):
    assert world.ctx.config.features == FeaturesConfig()
    assert served(world.ctx).features == world.night.features != FeaturesConfig()
