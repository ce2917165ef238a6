"""The stage: what it writes, what it refuses, and that membership is frozen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from akt_spark.errors import DataError, MissingInput
from akt_spark.evaluation import evaluate
from akt_spark.evaluation.metrics import METRICS
from akt_spark.evaluation.results import Results

from .conftest import IMPRESSIONS, VARIANTS, Night, context, plant, predict
from .lakes import write


@pytest.fixture
def small(spark: SparkSession, tmp_path: Path):
    """A run with one seed that a test may spoil."""
    ctx = context(spark, tmp_path)
    samples = plant(ctx.lake)[:200]
    train = {"sample_id": "t", "split": "train", "label": 0.0, "history_length": 0}
    write(ctx.lake, "training.samples", [*samples, train])
    predict(ctx.lake, samples, {"akt_rec": 0.2, "base": 0.7}, seeds=[1])
    return ctx


def test_every_model_slice_and_metric_is_written(night: Night) -> None:
    rows = night.ctx.lake.read("evaluation.metrics").collect()
    assert {(row["variant"], row["seed"]) for row in rows} == {(v, s) for v in VARIANTS for s in (1, 2)}
    assert {row["metric"] for row in rows} == set(METRICS)
    assert len(rows) == len({(row["variant"], row["seed"], row["slice"], row["metric"]) for row in rows})
    assert night.outcome.rows_in == IMPRESSIONS * len(VARIANTS) * 2
    assert night.outcome.rows_out == len(rows)


def test_the_notes_name_variants_differences_and_what_is_clear(night: Night) -> None:
    notes = "\n".join(night.outcome.notes)
    assert "akt_rec against base: better on AUC (+0." in notes
    assert "prefix_residual against base: no clear difference on" in notes
    assert "base (reference)" in notes
    assert "*" in next(line for line in night.outcome.notes if line.startswith("akt_rec "))
    assert "do not cover the choice of seeds" in notes


def test_every_pair_of_variants_is_compared(night: Night) -> None:
    pairs = night.ctx.lake.read("evaluation.differences").select("variant", "reference").distinct().count()
    assert pairs == len(VARIANTS) * (len(VARIANTS) - 1)


@pytest.mark.night
def test_slices_stay_frozen_when_a_later_night_rewrites_the_snapshots_and_a_rerun_changes_nothing(small) -> None:
    evaluate.run(small)
    before = Results.load(small)
    items = small.lake.read("training.items").withColumn("segment", F.lit("head"))
    small.lake.overwrite("training.items", items)
    write(small.lake, "training.samples", [])
    evaluate.run(small)
    after = Results.load(small)
    assert after.metrics.keys() == before.metrics.keys()
    assert after.differences.keys() == before.differences.keys()
    assert after.value("base", 1, "item_tail", "n") == before.value("base", 1, "item_tail", "n") > 0
    assert after.value("base", 1, "tail", "auc") == pytest.approx(before.value("base", 1, "tail", "auc"))


def test_a_run_without_predictions_names_the_job_that_makes_them(small) -> None:
    with pytest.raises(MissingInput, match=r"serving\.predictions .* run jobs/score\.py"):
        evaluate.run(replace(small, run_id="never"))


def test_a_half_scored_model_is_refused(small) -> None:
    rows = small.lake.read("serving.predictions")
    small.lake.overwrite("serving.predictions", rows.where("variant = 'base' OR sample_id < 's5'"))
    with pytest.raises(DataError, match=r"akt_rec, seed 1: \d+ rows.*run jobs/score\.py again"):
        evaluate.run(small)
    small.lake.overwrite("serving.predictions", rows.where("variant = 'akt_rec'"))
    with pytest.raises(DataError, match=r"evaluation\.reference 'base'"):
        evaluate.run(small)
