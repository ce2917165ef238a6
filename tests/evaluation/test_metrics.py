"""Metrics in Spark against scikit-learn and against hand-computed values."""

from __future__ import annotations

import math

import numpy as np
import pytest
from pyspark.sql import SparkSession
from sklearn.metrics import log_loss, roc_auc_score

from akt_spark.evaluation.metrics import calibration_error, groups, ranked, slice_metrics, sliced, user_sums

BASE_RATE = 0.25
BINS = 20
ROWS = 600
Values = dict[tuple[str, str, str], float | None]

rng = np.random.default_rng(7)
USER = np.where(np.arange(ROWS) < 500, rng.integers(1, 30, ROWS), 90 + np.arange(ROWS) % 3)
LABEL = np.where(np.arange(ROWS) < 500, rng.random(ROWS) < 0.3, USER == 91).astype(float)  # users 90 to 92: one class
TIED = np.round(np.clip(0.3 * LABEL + 0.7 * rng.random(ROWS), 0.01, 0.99) * 8) / 8 * 0.96 + 0.02
SMOOTH = np.clip(0.2 * LABEL + 0.8 * rng.random(ROWS), 0.01, 0.99).astype(np.float32).astype(float)
SCORES = {
    "tied": TIED.astype(np.float32).astype(float),
    "smooth": SMOOTH,
    "monotone": (SMOOTH**3 / 2).astype(np.float32).astype(float),
    "mean": np.full(ROWS, LABEL.mean()),
    "saturated": LABEL * 0 + (rng.random(ROWS) < 0.5),
}
SLICE = {"all": np.full(ROWS, True), "user_head": USER == 5, "user_cold": USER >= 90, "item_cold": USER == 90}


@pytest.fixture(scope="module")
def values(spark: SparkSession) -> Values:
    """Every metric by (variant, slice, metric), and its standard error as metric 'se METRIC'."""
    rows = [
        (variant, 1, f"s{n}", int(USER[n]), float(LABEL[n]), float(scores[n]))
        for variant, scores in SCORES.items()
        for n in range(ROWS)
    ]
    columns = "variant string, seed int, sample_id string, user_idx int, label float, score double"
    predictions = spark.createDataFrame(rows, columns)
    members = [(f"s{n}", [name for name, inside in SLICE.items() if inside[n]]) for n in range(ROWS)]
    membership = spark.createDataFrame(members, "sample_id string, slices array<string>")
    names = groups(predictions)
    placed = ranked(sliced(predictions, membership, names)).cache()
    found = slice_metrics(user_sums(placed), calibration_error(placed, BINS), names, BASE_RATE).collect()
    placed.unpersist()
    values = {(row["variant"], row["slice"], row["metric"]): row["value"] for row in found}
    return values | {(row["variant"], row["slice"], f"se {row['metric']}"): row["stderr"] for row in found}


@pytest.mark.parametrize("variant", ["tied", "smooth", "monotone", "mean"])
def test_auc_and_log_loss_are_those_of_scikit_learn_ties_included(values: Values, variant: str) -> None:
    scores = SCORES[variant]
    assert len(np.unique(SCORES["tied"])) < 12
    assert values[variant, "all", "auc"] == pytest.approx(roc_auc_score(LABEL, scores), abs=1e-9)
    assert values[variant, "all", "logloss"] == pytest.approx(log_loss(LABEL, scores), abs=1e-9)
    assert values[variant, "all", "n"] == ROWS
    assert values[variant, "all", "positives"] == LABEL.sum()


@pytest.mark.parametrize("variant", ["tied", "smooth"])
def test_gauc_averages_the_auc_of_users_with_both_classes(values: Values, variant: str) -> None:
    users = [user for user in np.unique(USER) if 0 < LABEL[USER == user].mean() < 1]
    aucs = [roc_auc_score(LABEL[USER == user], SCORES[variant][USER == user]) for user in users]
    weights = [(USER == user).sum() for user in users]
    assert values[variant, "all", "gauc_impr"] == pytest.approx(np.average(aucs, weights=weights), abs=1e-9)
    assert values[variant, "all", "gauc_user"] == pytest.approx(np.mean(aucs), abs=1e-9)
    error = np.std(aucs) / math.sqrt(len(aucs))
    assert values[variant, "all", "se gauc_user"] == pytest.approx(error, abs=1e-9)


def test_users_with_one_class_are_skipped_and_counted(values: Values) -> None:
    users = np.unique(USER)
    kept = [user for user in users if 0 < LABEL[USER == user].mean() < 1]
    assert len(kept) < len(users)
    assert values["smooth", "all", "users"] == len(users)
    assert values["smooth", "all", "gauc_users_kept"] == pytest.approx(len(kept) / len(users))
    assert values["smooth", "all", "gauc_impressions_kept"] == pytest.approx(np.isin(USER, kept).mean())


def test_gauc_of_one_user_is_its_auc(values: Values) -> None:
    one = values["smooth", "user_head", "auc"]
    assert one == pytest.approx(roc_auc_score(LABEL[USER == 5], SMOOTH[USER == 5]), abs=1e-9)
    assert values["smooth", "user_head", "gauc_impr"] == pytest.approx(one, abs=1e-12)
    assert values["smooth", "user_head", "gauc_user"] == pytest.approx(one, abs=1e-12)


@pytest.mark.parametrize("metric", ["auc", "gauc_impr", "gauc_user"])
def test_ranking_does_not_change_with_a_monotone_transform(values: Values, metric: str) -> None:
    assert values["monotone", "all", metric] == values["smooth", "all", metric]


def test_predicting_the_mean_is_calibrated_and_ranks_nothing(values: Values) -> None:
    assert values["mean", "all", "pcoc"] == pytest.approx(1.0)
    assert values["mean", "all", "ece"] == pytest.approx(0.0, abs=1e-12)
    assert values["mean", "all", "auc"] == 0.5


def test_calibration_error_is_over_bins_of_equal_mass(values: Values) -> None:
    order = np.argsort(SMOOTH)
    gaps = [abs(SMOOTH[part].sum() - LABEL[part].sum()) for part in np.array_split(order, BINS)]
    assert values["smooth", "all", "ece"] == pytest.approx(sum(gaps) / ROWS, abs=1e-9)


def test_normalised_entropy_divides_by_the_entropy_of_the_training_click_rate(values: Values) -> None:
    entropy = log_loss([0, 0, 0, 1], [BASE_RATE] * 4)
    assert values["smooth", "all", "ne"] == pytest.approx(log_loss(LABEL, SMOOTH) / entropy, abs=1e-9)


def test_undefined_metrics_are_null_and_the_others_stay(values: Values) -> None:
    for metric in ("auc", "se auc", "gauc_impr", "gauc_user", "pcoc"):
        assert values["smooth", "item_cold", metric] is None
    assert values["smooth", "item_cold", "logloss"] is not None
    assert values["smooth", "item_cold", "gauc_users_kept"] == 0
    assert values["smooth", "user_cold", "auc"] is not None
    assert values["smooth", "user_cold", "gauc_impr"] is None


def test_saturated_scores_give_a_finite_log_loss(values: Values) -> None:
    clipped = np.clip(SCORES["saturated"], 1e-7, 1 - 1e-7)
    assert values["saturated", "all", "logloss"] == pytest.approx(log_loss(LABEL, clipped), abs=1e-9)


def test_standard_error_of_auc_is_hanley_and_mcneils(values: Values) -> None:
    auc, p, n = roc_auc_score(LABEL, SMOOTH), LABEL.sum(), ROWS - LABEL.sum()
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    spread = (auc * (1 - auc) + (p - 1) * (q1 - auc**2) + (n - 1) * (q2 - auc**2)) / (p * n)
    assert values["smooth", "all", "se auc"] == pytest.approx(math.sqrt(spread), abs=1e-9)
