"""Ranking and calibration metrics over all predictions of a slice, computed in Spark (method.md 8).

Rows are sorted within a group (a variant, a seed and a slice) and within its users; per-user sums of the opponents that
a row beats then give AUC, GAUC and, in significance.py, their bootstrap. Nothing is computed a batch.
"""

from __future__ import annotations

import math

from pyspark.sql import Column, DataFrame, Window, WindowSpec
from pyspark.sql import functions as F

from akt_spark.evaluation.slices import SLICES

KEY = ("variant", "seed", "slice")
CLIP = 1e-7  # scores are float32: a saturated sigmoid is exactly 0 or 1

METRICS = {
    "auc": "area under the ROC curve over all impressions, ties count half",
    "gauc_impr": "AUC inside each user, averaged with the user's impressions as weight",
    "gauc_user": "AUC inside each user, averaged over users",
    "gauc_users_kept": "share of users who have both classes, and so an AUC",
    "gauc_impressions_kept": "share of impressions that are theirs",
    "logloss": "mean negative log likelihood",
    "ne": "log loss over the entropy of the training click rate; below 1 is better than a constant",
    "pcoc": "predicted clicks over observed clicks; 1 is calibrated",
    "ece": "mean distance of predicted and observed click rate over bins of equal mass",
    "n": "impressions",
    "positives": "clicked impressions",
    "users": "users",
}


def groups(predictions: DataFrame) -> DataFrame:
    """variant, seed, slice and an integer that stands for the three: windows sort integers faster than names."""
    models = sorted((row["variant"], row["seed"]) for row in predictions.select("variant", "seed").distinct().collect())
    rows = [(*model, name) for model in models for name in SLICES]
    return predictions.sparkSession.createDataFrame(
        [(*row, group) for group, row in enumerate(rows)], "variant string, seed int, slice string, group int"
    )


def sliced(predictions: DataFrame, membership: DataFrame, names: DataFrame) -> DataFrame:
    """One row a prediction and slice: group, user_idx, positive (0/1), score.

    Args:
        predictions: serving.predictions of one run.
        membership: `slices.sample_slices`, and `slices.planted_slices` below it.
        names: `groups`.
    """
    rows = predictions.join(membership, on="sample_id", how="inner").select(
        "variant",
        "seed",
        F.explode("slices").alias("slice"),
        "user_idx",
        F.col("label").cast("int").alias("positive"),
        F.col("score").cast("double").alias("score"),
    )
    named = rows.join(F.broadcast(names), on=list(KEY), how="inner")
    return named.select("group", "user_idx", "positive", "score")


def ranked(rows: DataFrame) -> DataFrame:
    """Adds how many opponents score below each row; equal scores count half.

    Args:
        rows: `sliced`.

    Returns:
        rows with negatives_below and positives_below (in the group), own_negatives_below (of the same user).
    """
    counted = rows.withColumn("negative", 1 - F.col("positive"))
    return counted.select(
        *rows.columns,
        _below("negative", "group").alias("negatives_below"),
        _below("positive", "group").alias("positives_below"),
        _below("negative", "group", "user_idx").alias("own_negatives_below"),
    )


def _below(column: str, *partition: str) -> Column:
    """Sum over smaller scores plus half the sum over equal ones, the row itself included."""
    up_to: WindowSpec = Window.partitionBy(*partition).orderBy("score")
    ties = Window.partitionBy(*partition, "score")
    frame = up_to.rangeBetween(Window.unboundedPreceding, Window.currentRow)
    return F.sum(column).over(frame) - F.sum(column).over(ties) / 2


def user_sums(rows: DataFrame) -> DataFrame:
    """One row a group and user: the sums that every metric but ECE is made of.

    Args:
        rows: `ranked`.

    Returns:
        group, user_idx, n, positives, negatives_below (summed over the user's positives), positives_below (summed over
        the user's negatives), score, loss, loss_squared, user_auc (null where the user has one class).
    """
    probability = F.greatest(F.lit(CLIP), F.least(F.lit(1 - CLIP), F.col("score")))
    positive = F.col("positive") == 1
    loss = -F.log(F.when(positive, probability).otherwise(1 - probability))
    sums = (
        rows.withColumn("loss", loss)
        .groupBy("group", "user_idx")
        .agg(
            F.count("*").alias("n"),
            F.sum("positive").alias("positives"),
            F.sum(F.when(positive, F.col("negatives_below")).otherwise(0.0)).alias("negatives_below"),
            F.sum(F.when(positive, 0.0).otherwise(F.col("positives_below"))).alias("positives_below"),
            F.sum(F.when(positive, F.col("own_negatives_below")).otherwise(0.0)).alias("own_negatives_below"),
            F.sum("score").alias("score"),
            F.sum("loss").alias("loss"),
            F.sum(F.col("loss") ** 2).alias("loss_squared"),
        )
    )
    pairs = F.col("positives") * (F.col("n") - F.col("positives"))
    return sums.withColumn("user_auc", F.try_divide("own_negatives_below", pairs)).drop("own_negatives_below")


def calibration_error(rows: DataFrame, bins: int) -> DataFrame:
    """group, ece: the mean over impressions of |mean score - click rate| of their bin.

    Args:
        rows: `ranked`.
        bins: bins of equal mass; equal scores share a bin.
    """
    totals = rows.groupBy("group").agg(F.count("*").alias("total"))
    share_below = (F.col("negatives_below") + F.col("positives_below")) / F.col("total")
    binned = rows.join(F.broadcast(totals), on="group", how="inner").withColumn("bin", F.floor(share_below * bins))
    gaps = binned.groupBy("group", "bin").agg(
        F.abs(F.sum("score") - F.sum("positive")).alias("gap"), F.count("*").alias("rows")
    )
    return gaps.groupBy("group").agg((F.sum("gap") / F.sum("rows")).alias("ece"))


def slice_metrics(users: DataFrame, calibration: DataFrame, names: DataFrame, base_rate: float | None) -> DataFrame:
    """Every metric of every slice in long form: KEY, metric, value, n, stderr.

    Args:
        users: `user_sums`.
        calibration: `calibration_error`.
        names: `groups`.
        base_rate: mean label of the training samples, for NE; null makes NE undefined.

    Returns:
        value is null where a metric is undefined (AUC of one class, PCOC without clicks).
    """
    weight = F.when(F.col("user_auc").isNotNull(), F.col("n"))
    totals = (
        users.groupBy("group")
        .agg(
            F.sum("n").alias("n"),
            F.count("*").alias("users"),
            *[F.sum(name).alias(name) for name in ("positives", "negatives_below", "score", "loss", "loss_squared")],
            F.sum(weight).alias("kept"),
            F.count("user_auc").alias("kept_users"),
            *_moments("user", F.lit(1)),
            *_moments("impr", weight),
        )
        .join(calibration, on="group", how="left")
        .join(F.broadcast(names), on="group", how="inner")
    )
    return totals.select(*KEY, F.inline(F.array(*_long_form(base_rate))))


def _moments(name: str, weight: Column) -> list[Column]:
    """Weighted sums of the users' AUC, for a weighted mean and its standard error."""
    auc = F.col("user_auc")
    present = F.when(auc.isNotNull(), weight)
    return [
        F.sum(present).alias(f"{name}_w"),
        F.sum(present * auc).alias(f"{name}_wa"),
        F.sum(present**2).alias(f"{name}_w2"),
        F.sum(present**2 * auc).alias(f"{name}_w2a"),
        F.sum((present * auc) ** 2).alias(f"{name}_w2a2"),
    ]


def _long_form(base_rate: float | None) -> list[Column]:
    n, kept = F.col("n"), F.coalesce(F.col("kept"), F.lit(0))
    auc = F.try_divide("negatives_below", F.col("positives") * (n - F.col("positives")))
    logloss = F.col("loss") / n
    loss_error = F.sqrt(F.greatest(F.lit(0.0), F.col("loss_squared") / n - logloss**2) / n)
    entropy = _entropy(base_rate)
    rows = {
        "auc": (auc, n, _hanley_mcneil(auc)),
        "gauc_impr": (*_weighted_mean("impr", kept),),
        "gauc_user": (*_weighted_mean("user", kept),),
        "gauc_users_kept": (F.col("kept_users") / F.col("users"), n, None),
        "gauc_impressions_kept": (kept / n, n, None),
        "logloss": (logloss, n, loss_error),
        "ne": (logloss / entropy if entropy else None, n, None),
        "pcoc": (F.try_divide("score", F.col("positives")), n, None),
        "ece": (F.col("ece"), n, None),
        "n": (n, n, None),
        "positives": (F.col("positives"), n, None),
        "users": (F.col("users"), n, None),
    }
    return [_metric_row(name, *rows[name]) for name in METRICS]


def _metric_row(name: str, value: Column | None, n: Column, stderr: Column | None) -> Column:
    def double(column: Column | None) -> Column:
        return (F.lit(None) if column is None else column).cast("double")

    return F.struct(
        F.lit(name).alias("metric"),
        double(value).alias("value"),
        n.cast("bigint").alias("n"),
        double(stderr).alias("stderr"),
    )


def _weighted_mean(name: str, kept: Column) -> tuple[Column, Column, Column]:
    """Mean, rows and standard error: that of a ratio estimator, users independent."""
    w, wa, w2, w2a, w2a2 = (F.col(f"{name}_{suffix}") for suffix in ("w", "wa", "w2", "w2a", "w2a2"))
    mean = F.try_divide(wa, w)
    spread = w2a2 - 2 * mean * w2a + mean**2 * w2
    return mean, kept, _root(spread) / w


def _hanley_mcneil(auc: Column) -> Column:
    """Standard error of an AUC of independent rows (Hanley and McNeil, Radiology 143, 1982, eq. 2)."""
    positives, negatives = F.col("positives"), F.col("n") - F.col("positives")
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    spread = auc * (1 - auc) + (positives - 1) * (q1 - auc**2) + (negatives - 1) * (q2 - auc**2)
    return _root(F.try_divide(spread, positives * negatives))


def _root(spread: Column) -> Column:
    """Square root of a variance that rounding may have made negative; null stays null, which `greatest` would drop."""
    return F.when(spread.isNotNull(), F.sqrt(F.greatest(F.lit(0.0), spread)))


def _entropy(rate: float | None) -> float | None:
    """Entropy in nats of a click rate; None where it is 0 or unknown."""
    if rate is None or not 0 < rate < 1:
        return None
    return -(rate * math.log(rate) + (1 - rate) * math.log(1 - rate))
