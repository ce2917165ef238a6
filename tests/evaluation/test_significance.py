"""The bootstrap of users: intervals that are right, paired, and absent where they would mean nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pyspark.sql import SparkSession
from sklearn.metrics import roc_auc_score

from akt_spark.evaluation.metrics import groups, ranked, sliced, user_sums
from akt_spark.evaluation.significance import (
    COMPARED,
    Difference,
    Replicates,
    differences,
    holm,
    replicates,
    user_weights,
    with_holm,
)

B = 400
USERS, EACH = 60, 12
SEEDS = (1, 2)
VARIANTS = ("base", "better", "same", "twin")


def scores() -> tuple[np.ndarray, np.ndarray, dict[tuple[str, int], np.ndarray]]:
    """user (N,), label (N,) and scores by (variant, seed); base and twin differ by noise only, same is base."""
    rng = np.random.default_rng(3)
    user = np.repeat(np.arange(1, USERS + 1), EACH)
    label = (rng.random(len(user)) < 0.4).astype(float)
    found = {}
    for seed in SEEDS:
        taste = 1.2 * label + rng.normal(size=USERS)[user - 1] + rng.normal(size=len(user))
        found["base", seed] = taste + 0.3 * rng.normal(size=len(user))
        found["same", seed] = found["base", seed]
        found["twin", seed] = taste + 0.3 * rng.normal(size=len(user))
        found["better", seed] = taste + 0.8 * label
    return user, label, {key: (1 / (1 + np.exp(-value))).astype(np.float32) for key, value in found.items()}


USER, LABEL, SCORES = scores()


@pytest.fixture(scope="module")
def resampled(spark: SparkSession) -> dict[str, Replicates]:
    rows = [
        (*key, f"s{n}", int(USER[n]), float(LABEL[n]), float(score))
        for key, values in SCORES.items()
        for n, score in enumerate(values)
    ]
    columns = "variant string, seed int, sample_id string, user_idx int, label float, score float"
    predictions = spark.createDataFrame(rows, columns)
    few = {n for n in range(len(USER)) if USER[n] <= 5}
    members = [(f"s{n}", ["all", "tail"] if n in few else ["all"]) for n in range(len(USER))]
    names = groups(predictions)
    membership = spark.createDataFrame(members, "sample_id string, slices array<string>")
    found = replicates(user_sums(ranked(sliced(predictions, membership, names))), names, B)
    return {replicate.slice: replicate for replicate in found}


@pytest.fixture(scope="module")
def found(resampled: dict[str, Replicates]) -> dict[tuple[str, str, str, str], Difference]:
    by_seed = {
        (variant, seed, name, metric): float(values[metric][0])
        + (0.001 * seed if variant == "better" and metric != "logloss" else 0)
        for name, replicate in resampled.items()
        for variant, values in replicate.metrics.items()
        for metric in values
        for seed in SEEDS
    }
    rows = differences(list(resampled.values()), by_seed)
    return {(d.variant, d.reference, d.slice, d.metric): d for d in rows}


def test_the_first_replicate_is_the_metric_itself(resampled: dict[str, Replicates]) -> None:
    for variant in VARIANTS:
        mean = np.mean([roc_auc_score(LABEL, SCORES[variant, seed]) for seed in SEEDS])
        assert resampled["all"].metrics[variant]["auc"][0] == pytest.approx(mean, abs=1e-9)


def test_auc_replicates_follow_the_auc_of_weighted_users(resampled: dict[str, Replicates]) -> None:
    weights = np.stack([user_weights(user, B) for user in range(1, USERS + 1)])[USER - 1]  # (N, B + 1)
    for variant in ("base", "better"):
        exact = [
            np.mean([roc_auc_score(LABEL, SCORES[variant, seed], sample_weight=weights[:, b]) for seed in SEEDS])
            for b in range(1, 101)
        ]
        approximate = resampled["all"].metrics[variant]["auc"][1:101]
        assert np.corrcoef(exact, approximate)[0, 1] > 0.99
        assert np.std(approximate) == pytest.approx(np.std(exact), rel=0.05)


def test_gauc_and_log_loss_replicates_are_exact(resampled: dict[str, Replicates]) -> None:
    weights = np.stack([user_weights(user, B) for user in range(1, USERS + 1)])  # (U, B + 1)
    kept = [user for user in range(1, USERS + 1) if 0 < LABEL[USER == user].mean() < 1]
    assert len(kept) == resampled["all"].kept_users
    aucs = np.array(
        [np.mean([roc_auc_score(LABEL[USER == u], SCORES["base", s][USER == u]) for s in SEEDS]) for u in kept]
    )
    w = weights[np.array(kept) - 1]
    np.testing.assert_allclose(resampled["all"].metrics["base"]["gauc_user"], (w * aucs[:, None]).sum(0) / w.sum(0))


def test_identical_models_differ_by_exactly_nothing(found: dict) -> None:
    for metric in ("auc", "gauc_impr", "gauc_user", "logloss"):
        difference = found["same", "base", "all", metric]
        assert (difference.difference, difference.lower, difference.upper) == (0, 0, 0)
        assert not difference.clear
        assert difference.wins == 0


def test_the_interval_of_models_that_differ_by_noise_covers_zero(found: dict) -> None:
    for metric in ("auc", "gauc_impr", "gauc_user", "logloss"):
        difference = found["twin", "base", "all", metric]
        assert difference.lower < 0 < difference.upper
        assert not difference.clear


def test_the_interval_of_a_clearly_better_model_excludes_zero(found: dict) -> None:
    for metric in ("auc", "gauc_impr", "gauc_user", "logloss"):
        difference = found["better", "base", "all", metric]
        assert difference.clear
        assert difference.gain > 0
        opposite = found["base", "better", "all", metric]
        assert opposite.difference == pytest.approx(-difference.difference)
        assert opposite.lower == pytest.approx(-difference.upper)


def test_pairing_makes_the_interval_narrower_than_independent_resampling(resampled: dict[str, Replicates]) -> None:
    ours, theirs = (resampled["all"].metrics[name]["auc"][1:] for name in ("better", "base"))
    assert np.std(ours - theirs) < 0.7 * np.sqrt(np.var(ours) + np.var(theirs))


def test_ratio_and_rela_impr_are_the_ones_papers_print(found: dict, resampled: dict[str, Replicates]) -> None:
    ours, theirs = (resampled["all"].metrics[name]["auc"][0] for name in ("better", "base"))
    difference = found["better", "base", "all", "auc"]
    assert difference.ratio == pytest.approx(ours / theirs - 1)
    assert difference.rela_impr == pytest.approx((ours - 0.5) / (theirs - 0.5) - 1)
    assert found["better", "base", "all", "logloss"].rela_impr is None


def test_wins_and_spread_are_over_seeds(found: dict) -> None:
    difference = found["better", "base", "all", "auc"]
    assert (difference.seeds, difference.wins) == (2, 2)
    assert difference.seed_sd == pytest.approx(0.001 / np.sqrt(2))


def test_few_users_give_no_interval(found: dict) -> None:
    difference = found["better", "base", "tail", "auc"]
    assert (difference.users, difference.lower, difference.upper) == (5, None, None)
    assert not difference.clear


def test_a_users_weights_depend_on_the_user_alone() -> None:
    np.testing.assert_array_equal(user_weights(17, 50), user_weights(17, 50))
    assert not np.array_equal(user_weights(17, 50), user_weights(18, 50))
    assert user_weights(17, 50)[0] == 1
    assert np.mean([user_weights(user, 100)[1:].mean() for user in range(50)]) == pytest.approx(1.0, abs=0.05)


def test_holm_is_the_textbook_s() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


def test_p_values_agree_with_the_intervals(found: dict) -> None:
    tested = [difference for difference in found.values() if difference.p is not None]
    assert tested and all((difference.p is None) == (difference.lower is None) for difference in found.values())
    sure = [d for d in tested if d.clear and min(abs(d.lower), abs(d.upper)) > 0.01]
    assert sure and all(d.p < 0.05 for d in sure)
    covering = [d for d in tested if d.lower < -0.001 and d.upper > 0.001]
    assert covering and all(d.p > 0.01 for d in covering)


def test_a_family_is_a_reference_a_metric_and_the_slices_of_one_question(found: dict) -> None:
    one = found["better", "base", "all", "auc"]
    places = [
        ("a", "base", "all", 0.01),
        ("b", "base", "tail", 0.02),
        ("a", "base", "item_tail", 0.03),  # a breakdown
        ("a", "b", "all", 0.05),  # another reference
        *[("a", "base", f"item_decile_{number:02d}", 0.04) for number in range(1, 11)],
        ("b", "base", "head", None),
    ]
    rows = [replace(one, variant=v, reference=r, slice=s, p=p) for v, r, s, p in places]
    rows.append(replace(rows[0], metric="logloss", p=0.001))
    adjusted = {(d.variant, d.reference, d.slice, d.metric): d.p_holm for d in with_holm(rows)}
    assert adjusted["a", "base", "all", "auc"] == pytest.approx(2 * 0.01)
    assert adjusted["b", "base", "tail", "auc"] == pytest.approx(0.02)
    assert adjusted["a", "base", "item_tail", "auc"] == pytest.approx(0.03)
    assert adjusted["a", "b", "all", "auc"] == pytest.approx(0.05)
    assert adjusted["a", "base", "item_decile_07", "auc"] == pytest.approx(10 * 0.04)
    assert adjusted["a", "base", "all", "logloss"] == pytest.approx(0.001)
    assert adjusted["b", "base", "head", "auc"] is None


def test_resamples_that_lack_a_class_are_left_out_and_where_all_do_there_is_no_interval() -> None:
    drawn = np.linspace(0.6, 0.7, 101)

    def one(name: str, undefined: slice) -> Difference:
        values = {"a": drawn + 0.01, "b": np.full(101, 0.6)}
        for resampled in values.values():
            resampled[undefined] = np.nan
        metrics = {variant: {metric: value for metric in COMPARED} for variant, value in values.items()}
        by_seed = {(variant, 1, name, metric): 0.6 for variant in values for metric in COMPARED}
        rows = differences([Replicates(name, 20, 20, metrics)], by_seed)
        return next(d for d in rows if (d.variant, d.metric) == ("a", "auc"))

    half = one("tail", slice(51, None))
    assert (half.lower, half.upper) == pytest.approx(tuple(np.percentile(drawn[1:51] - 0.59, [2.5, 97.5])))
    assert half.p is not None and half.clear
    none = one("head", slice(1, None))
    assert (none.lower, none.upper, none.p, none.p_holm) == (None, None, None, None)
    assert none.difference == pytest.approx(0.01)
