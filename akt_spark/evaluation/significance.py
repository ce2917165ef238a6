"""Paired differences between variants, with intervals from a bootstrap of users.

A resample gives every user a Poisson(1) weight, the same one in every variant, seed and slice (the Poisson bootstrap:
Chamandy et al., "Estimating uncertainty for massive data streams", 2012). The weights are a function of the user and
the resample, so executors draw them where the users are and only weighted sums travel. GAUC and log loss are ratios of
such sums. AUC is one to first order: with V a row's share of beaten opponents,

    AUC_b = sum(w V) / sum(w) over positives + sum(w V) / sum(w) over negatives - AUC,

the von Mises expansion behind DeLong's and Obuchowski's (Biometrics 53, 1997) variances; no row is collected and no
user is sampled away.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from akt_spark.evaluation.metrics import KEY

COMPARED = ("auc", "gauc_impr", "gauc_user", "logloss")
LOWER_IS_BETTER = {"logloss"}
MIN_USERS = 10  # fewer users give no interval worth printing
BOOTSTRAP_SEED = 20_240_607

SUMS = (
    "users",
    "n",
    "positives",
    "negatives_below",
    "positives_above",
    "loss",
    "kept_users",
    "kept_n",
    "kept_auc",
    "kept_n_auc",
)
KEY_SCHEMA = "variant string, seed int, slice string"


@dataclass(frozen=True)
class Difference:
    """A metric of one variant minus that of another, averaged over seeds.

    Attributes:
        lower, upper: 95 % interval over resampled users; None with fewer than `MIN_USERS` users.
        ratio: variant / reference - 1 (the paper's percentages).
        rela_impr: (AUC - .5) / (reference AUC - .5) - 1; None for log loss.
        wins: seeds in which the variant is the better one.
        seed_sd: standard deviation of the difference over seeds; None with one seed.
        users: users behind the metric.
    """

    variant: str
    reference: str
    slice: str
    metric: str
    difference: float
    lower: float | None
    upper: float | None
    ratio: float | None
    rela_impr: float | None
    seeds: int
    wins: int
    seed_sd: float | None
    users: int
    resamples: int

    @property
    def gain(self) -> float:
        """The difference with the sign that makes an improvement positive."""
        return -self.difference if self.metric in LOWER_IS_BETTER else self.difference

    @property
    def clear(self) -> bool:
        """Whether the interval excludes zero."""
        return self.lower is not None and (self.lower > 0 or self.upper < 0)


def replicates(users: DataFrame, resamples: int) -> DataFrame:
    """Metrics of every variant, seed and slice under resampled users.

    Args:
        users: `metrics.user_sums`.
        resamples: number of resamples B.

    Returns:
        KEY, users BIGINT, kept_users BIGINT and, for each of `COMPARED`, the bytes of B + 1 float64: the metric of the
        users as they are, then of the resamples (NaN where undefined).
    """
    auc = F.coalesce(F.col("user_auc"), F.lit(0.0))
    kept = F.col("user_auc").isNotNull().cast("double")
    columns = {
        "users": F.lit(1.0),
        "kept_users": kept,
        "kept_n": kept * F.col("n"),
        "kept_auc": auc,
        "kept_n_auc": F.col("n") * auc,
    }
    rows = users.select(*KEY, "user_idx", *[columns.get(name, F.col(name)).cast("double").alias(name) for name in SUMS])
    partial = (
        rows.repartition("user_idx")
        .sortWithinPartitions("user_idx")
        .mapInPandas(lambda batches: _partial_sums(batches, resamples), f"{KEY_SCHEMA}, sums binary")
    )
    values = ", ".join(f"{name} binary" for name in COMPARED)
    return partial.groupBy(*KEY).applyInPandas(
        lambda key, group: _replicate(key, group, resamples),
        f"{KEY_SCHEMA}, users bigint, kept_users bigint, {values}",
    )


def user_weights(user: int, resamples: int) -> np.ndarray:
    """(B + 1,) weights of a user: 1, then one Poisson(1) draw a resample."""
    draws = np.random.default_rng([BOOTSTRAP_SEED, user]).poisson(1.0, resamples)
    return np.concatenate([[1.0], draws])


def _partial_sums(batches: Iterator[pd.DataFrame], resamples: int) -> Iterator[pd.DataFrame]:
    """Weighted sums (len(SUMS), B + 1) of the users of one partition, a variant, seed and slice."""
    totals: dict[tuple, np.ndarray] = {}
    for batch in batches:
        users, position = np.unique(batch["user_idx"].to_numpy(), return_inverse=True)
        weights = np.stack([user_weights(int(user), resamples) for user in users])  # (U, B + 1)
        values = batch[list(SUMS)].to_numpy()  # (rows, S)
        for key, rows in batch.groupby(list(KEY)).indices.items():
            sums = values[rows].T @ weights[position[rows]]  # (S, B + 1)
            totals[key] = totals[key] + sums if key in totals else sums
    if totals:
        keys = pd.DataFrame(list(totals), columns=list(KEY))
        yield keys.assign(sums=[sums.tobytes() for sums in totals.values()])


def _replicate(key: tuple, group: pd.DataFrame, resamples: int) -> pd.DataFrame:
    """Adds up the partial sums of one variant, seed and slice and turns them into metrics."""
    total = np.sum([np.frombuffer(part).reshape(len(SUMS), resamples + 1) for part in group["sums"]], axis=0)
    s = dict(zip(SUMS, total, strict=True))
    with np.errstate(divide="ignore", invalid="ignore"):
        negatives = s["n"] - s["positives"]
        values = {
            "auc": s["negatives_below"] / s["positives"] / negatives[0]
            + s["positives_above"] / negatives / s["positives"][0]
            - s["negatives_below"][0] / (s["positives"][0] * negatives[0]),
            "gauc_impr": s["kept_n_auc"] / s["kept_n"],
            "gauc_user": s["kept_auc"] / s["kept_users"],
            "logloss": s["loss"] / s["n"],
        }
    counts = {"users": int(s["users"][0]), "kept_users": int(s["kept_users"][0])}
    row = dict(zip(KEY, key, strict=True)) | counts | {name: values[name].tobytes() for name in COMPARED}
    return pd.DataFrame([row])


def differences(rows: list[dict]) -> list[Difference]:
    """Every ordered pair of variants, on every slice and metric that both define.

    Args:
        rows: the rows of `replicates`, collected: their number depends on the configuration only.
    """
    by_slice: dict[str, dict[str, dict[int, dict]]] = {}
    for row in rows:
        by_slice.setdefault(row["slice"], {}).setdefault(row["variant"], {})[row["seed"]] = row
    found = [
        _difference(name, variant, reference, variants[variant], variants[reference], metric)
        for name, variants in by_slice.items()
        for variant, reference in permutations(variants, 2)
        for metric in COMPARED
    ]
    return [difference for difference in found if difference is not None]


def _difference(
    slice_name: str, variant: str, reference: str, ours: dict[int, dict], theirs: dict[int, dict], metric: str
) -> Difference | None:
    """One paired difference; None where the metric is undefined or no seed is shared."""
    seeds = sorted(ours.keys() & theirs.keys())
    if not seeds:
        return None
    left, right = (np.stack([np.frombuffer(side[seed][metric]) for seed in seeds]) for side in (ours, theirs))
    gaps = left - right  # (seeds, B + 1)
    point = gaps[:, 0]
    if not np.isfinite(point).all():
        return None
    users = ours[seeds[0]]["kept_users" if metric.startswith("gauc") else "users"]
    lower, upper = _interval(gaps[:, 1:].mean(axis=0)) if users >= MIN_USERS else (None, None)
    ours_mean, theirs_mean = float(left[:, 0].mean()), float(right[:, 0].mean())
    chance = theirs_mean - 0.5
    return Difference(
        variant=variant,
        reference=reference,
        slice=slice_name,
        metric=metric,
        difference=float(point.mean()),
        lower=lower,
        upper=upper,
        ratio=ours_mean / theirs_mean - 1 if theirs_mean else None,
        rela_impr=(ours_mean - 0.5) / chance - 1 if chance and metric not in LOWER_IS_BETTER else None,
        seeds=len(seeds),
        wins=int((point < 0).sum() if metric in LOWER_IS_BETTER else (point > 0).sum()),
        seed_sd=float(point.std(ddof=1)) if len(seeds) > 1 else None,
        users=users,
        resamples=gaps.shape[1] - 1,
    )


def _interval(gaps: np.ndarray) -> tuple[float, float]:
    """Central 95 % of the resamples in which the metric is defined."""
    lower, upper = np.nanpercentile(gaps, [2.5, 97.5])
    return float(lower), float(upper)
