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

import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from akt_spark.evaluation.slices import FAMILY_OF

COMPARED = ("auc", "gauc_impr", "gauc_user", "logloss")
LOWER_IS_BETTER = {"logloss"}
MIN_USERS = 10  # fewer users give no interval worth printing
BOOTSTRAP_SEED = 20_240_607

SeedValues = dict[tuple[str, int, str, str], float | None]  # variant, seed, slice, metric -> value

# Sums over users: those of the labels are the same for every variant, those of the scores are means over seeds.
LABEL_SUMS = ("users", "n", "positives", "kept_users", "kept_n")
SCORE_SUMS = ("negatives_below", "positives_below", "loss", "kept_auc", "kept_n_auc")


@dataclass(frozen=True)
class Replicates:
    """Metrics of one slice as they are and under resampled users.

    Attributes:
        users: users of the slice; kept_users: those with both classes.
        metrics: variant -> metric (`COMPARED`) -> (B + 1,) float64: of the users as they are, then of the resamples.
    """

    slice: str
    users: int
    kept_users: int
    metrics: dict[str, dict[str, np.ndarray]]


@dataclass(frozen=True)
class Difference:
    """A metric of one variant minus that of another, averaged over seeds.

    Attributes:
        lower, upper: 95 % interval over resampled users; None with fewer than `MIN_USERS` users.
        p: two-sided, of no difference, by the spread over resampled users and a normal law; None likewise.
        p_holm: the same when all variants and slices of the slice's family (`slices.FAMILIES`) are looked at that are
            compared with this reference by this metric (Holm 1979).
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
    p: float | None = None
    p_holm: float | None = None

    @property
    def gain(self) -> float:
        """The difference with the sign that makes an improvement positive."""
        return -self.difference if self.metric in LOWER_IS_BETTER else self.difference

    @property
    def clear(self) -> bool:
        """Whether the interval excludes zero."""
        return self.lower is not None and (self.lower > 0 or self.upper < 0)


def replicates(users: DataFrame, names: DataFrame, resamples: int) -> list[Replicates]:
    """Metrics of every variant and slice under resampled users, averaged over seeds.

    All variants and seeds must have scored the same samples: labels are taken from any of them.

    Args:
        users: `metrics.user_sums`.
        names: `metrics.groups`.
        resamples: number of resamples B.
    """
    variants = sorted(row["variant"] for row in names.select("variant").distinct().collect())
    columns = [*LABEL_SUMS, *[f"{name}_{number}" for number in range(len(variants)) for name in SCORE_SUMS]]
    partial = (
        _paired(users, names, variants)
        .repartition("user_idx")
        .mapInPandas(lambda batches: _partial_sums(batches, columns, resamples), "slice string, sums binary")
    )
    totals = partial.groupBy("slice").applyInPandas(_add_up, partial.schema)
    shape = (len(columns), resamples + 1)
    return [
        _replicate(row["slice"], variants, dict(zip(columns, np.frombuffer(row["sums"]).reshape(shape), strict=True)))
        for row in totals.collect()
    ]


def _paired(users: DataFrame, names: DataFrame, variants: list[str]) -> DataFrame:
    """One row a slice and user: the sums of the labels, then the sums of each variant's scores, as doubles."""
    auc = F.coalesce(F.col("user_auc"), F.lit(0.0))
    kept = F.col("user_auc").isNotNull().cast("int")
    rows = users.join(F.broadcast(names), on="group", how="inner").select(
        "slice",
        "variant",
        "user_idx",
        *[column.cast("double").alias(name) for name, column in _summands(auc, kept).items()],
    )
    labels = [F.first(name).alias(name) for name in LABEL_SUMS]
    scores = [
        F.avg(F.when(F.col("variant") == variant, F.col(name))).alias(f"{name}_{number}")
        for number, variant in enumerate(variants)
        for name in SCORE_SUMS
    ]
    return rows.groupBy("slice", "user_idx").agg(*labels, *scores)


def _summands(auc: Column, kept: Column) -> dict[str, Column]:
    return {
        "users": F.lit(1),
        "n": F.col("n"),
        "positives": F.col("positives"),
        "kept_users": kept,
        "kept_n": kept * F.col("n"),
        "negatives_below": F.col("negatives_below"),
        "positives_below": F.col("positives_below"),
        "loss": F.col("loss"),
        "kept_auc": auc,
        "kept_n_auc": F.col("n") * auc,
    }


def user_weights(user: int, resamples: int) -> np.ndarray:
    """(B + 1,) weights of a user: 1, then one Poisson(1) draw a resample."""
    draws = np.random.default_rng([BOOTSTRAP_SEED, user]).poisson(1.0, resamples)
    return np.concatenate([[1.0], draws])


def _partial_sums(batches: Iterator[pd.DataFrame], columns: list[str], resamples: int) -> Iterator[pd.DataFrame]:
    """Weighted sums (columns, B + 1) over the users of one partition, a slice."""
    totals: dict[str, np.ndarray] = {}
    for batch in batches:
        users, position = np.unique(batch["user_idx"].to_numpy(), return_inverse=True)
        weights = np.stack([user_weights(int(user), resamples) for user in users])  # (U, B + 1)
        values = batch[columns].to_numpy()  # (rows, columns)
        for name, rows in batch.groupby("slice").indices.items():
            totals[name] = totals.get(name, 0.0) + values[rows].T @ weights[position[rows]]
    yield pd.DataFrame({"slice": list(totals), "sums": [sums.tobytes() for sums in totals.values()]})


def _add_up(group: pd.DataFrame) -> pd.DataFrame:
    """Adds the partial sums of one slice."""
    total = np.sum([np.frombuffer(part) for part in group["sums"]], axis=0)
    return group[["slice"]].head(1).assign(sums=[total.tobytes()])


def _replicate(slice_name: str, variants: list[str], sums: dict[str, np.ndarray]) -> Replicates:
    """Turns sums (B + 1,) into metrics; NaN where a resample leaves one undefined."""
    n, positives = sums["n"], sums["positives"]
    negatives = n - positives
    metrics = {}
    with np.errstate(divide="ignore", invalid="ignore"):
        for number, variant in enumerate(variants):
            score = {name: sums[f"{name}_{number}"] for name in SCORE_SUMS}
            beaten = score["negatives_below"] / positives / negatives[0]
            unbeaten = 1 - score["positives_below"] / negatives / positives[0]
            metrics[variant] = {
                "auc": beaten + unbeaten - beaten[0],
                "gauc_impr": score["kept_n_auc"] / sums["kept_n"],
                "gauc_user": score["kept_auc"] / sums["kept_users"],
                "logloss": score["loss"] / n,
            }
    return Replicates(slice_name, int(sums["users"][0]), int(sums["kept_users"][0]), metrics)


def differences(resampled: list[Replicates], by_seed: SeedValues) -> list[Difference]:
    """Every ordered pair of variants, on every slice and metric that both define.

    Args:
        resampled: `replicates`.
        by_seed: metrics by (variant, seed, slice, metric), for wins and spread over seeds.
    """
    seeds = sorted({seed for _, seed, *_ in by_seed})
    found = [
        difference
        for replicate in resampled
        for metric in COMPARED
        for reference in replicate.metrics
        for difference in _against(replicate, reference, metric, by_seed, seeds)
    ]
    return list(with_holm(found))


def with_holm(found: Iterable[Difference]) -> Iterator[Difference]:
    """The differences with ``p_holm``."""
    families: dict[tuple[str, str, str], list[Difference]] = {}
    for difference in found:
        family = (difference.reference, difference.metric, FAMILY_OF[difference.slice])
        families.setdefault(family, []).append(difference)
    for family in families.values():
        tested = [difference for difference in family if difference.p is not None]
        adjusted = dict(zip(map(id, tested), holm([difference.p for difference in tested]), strict=True))
        for difference in family:
            yield replace(difference, p_holm=adjusted.get(id(difference)))


def holm(p: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values: the chance of any false alarm among those that are called at a level is at most it."""
    order, adjusted, least = np.argsort(p, kind="stable"), [0.0] * len(p), 0.0
    for rank, place in enumerate(order):
        least = max(least, min(1.0, (len(p) - rank) * p[place]))
        adjusted[place] = least
    return adjusted


def _against(
    replicate: Replicates, reference: str, metric: str, by_seed: SeedValues, seeds: list[int]
) -> Iterator[Difference]:
    """All other variants minus one on a slice; none where the metric is undefined."""
    theirs = replicate.metrics[reference][metric]
    variants = [variant for variant in replicate.metrics if variant != reference]
    if not variants or not np.isfinite(theirs[0]):
        return
    users = replicate.kept_users if metric.startswith("gauc") else replicate.users
    values = np.stack([replicate.metrics[variant][metric] for variant in variants])  # (V, B + 1)
    base, chance = float(theirs[0]), float(theirs[0]) - 0.5
    place = (replicate.slice, metric)
    for variant, ours, gap, interval, spread in zip(
        variants, values[:, 0].tolist(), (values[:, 0] - base).tolist(), *_resampled(values - theirs), strict=True
    ):
        points = np.array([by_seed[variant, seed, *place] - by_seed[reference, seed, *place] for seed in seeds])
        told = users >= MIN_USERS and math.isfinite(spread)
        yield Difference(
            variant=variant,
            reference=reference,
            slice=replicate.slice,
            metric=metric,
            difference=gap,
            lower=interval[0] if told else None,
            upper=interval[1] if told else None,
            ratio=ours / base - 1 if base else None,
            rela_impr=(ours - 0.5) / chance - 1 if chance and metric not in LOWER_IS_BETTER else None,
            seeds=len(seeds),
            wins=int((points < 0).sum() if metric in LOWER_IS_BETTER else (points > 0).sum()),
            seed_sd=float(points.std(ddof=1)) if len(seeds) > 1 else None,
            users=users,
            resamples=len(theirs) - 1,
            p=_p_value(gap, spread) if told else None,
        )


def _resampled(gaps: np.ndarray) -> tuple[list[list[float]], list[float]]:
    """Central 95 % and standard deviation over the resamples that define a metric; NaN where none does.

    Args:
        gaps: (V, B + 1), of the users as they are and then of the resamples.
    """
    drawn = gaps[:, 1:]
    if np.isfinite(drawn).all():  # all variants at once, of which there may be many
        return np.percentile(drawn, [2.5, 97.5], axis=1).T.tolist(), drawn.std(axis=1).tolist()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a resample without a class in all of them
        return np.nanpercentile(drawn, [2.5, 97.5], axis=1).T.tolist(), np.nanstd(drawn, axis=1).tolist()


def _p_value(gap: float, spread: float) -> float:
    if spread == 0:
        return float(gap == 0)
    return math.erfc(abs(gap) / spread / math.sqrt(2))
