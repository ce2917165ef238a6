"""evaluate: serving.predictions -> evaluation.metrics and evaluation.differences."""

from __future__ import annotations

import math
from dataclasses import asdict

from pyspark import StorageLevel
from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from akt_spark.errors import DataError, MissingInput
from akt_spark.evaluation.frozen import Frozen, frozen
from akt_spark.evaluation.metrics import calibration_error, groups, ranked, slice_metrics, sliced, user_sums
from akt_spark.evaluation.results import Results, metrics_by_key
from akt_spark.evaluation.significance import Difference, differences, replicates
from akt_spark.evaluation.slices import planted_slices, sample_slices
from akt_spark.evaluation.wording import caveats, comparison_lines, verdicts
from akt_spark.stage import Context, Outcome

PREDICTIONS_PER_TASK = 100_000  # times their slices, of which a task sorts all rows several times, one sort in another


def run(ctx: Context) -> Outcome:
    """Measures every variant and seed of the run on every slice, and compares the variants.

    Raises:
        MissingInput: when the run has no predictions or no checkpoint.
        DataError: when variants were not scored on the same test samples.
    """
    predictions = ctx.lake.read("serving.predictions").where(F.col("run_id") == ctx.run_id)
    if predictions.isEmpty():
        raise MissingInput("serving.predictions", "score", f"has no row of run {ctx.run_id}")
    trained_on = frozen(ctx)
    scored = _check_pairing(ctx, predictions, trained_on)
    metrics, found = _measure(ctx, predictions, scored, trained_on)
    _write(ctx, metrics, found)
    results = Results.of(ctx, metrics_by_key(metrics), found)
    notes = [*comparison_lines(results), *verdicts(results), *caveats(results)]
    return Outcome(rows_in=scored, rows_out=len(metrics), notes=notes)


def _check_pairing(ctx: Context, predictions: DataFrame, trained_on: Frozen) -> int:
    """Refuses to compare models that were scored on different rows. Returns the number of predictions."""
    reference = ctx.config.evaluation.reference
    test = trained_on.samples.where(F.col("split") == "test").select("sample_id", F.lit(1).alias("known"))
    counted = (
        predictions.join(test, on="sample_id", how="left")
        .groupBy("variant", "seed")
        .agg(F.count("*").alias("rows"), F.count("known").alias("known"))
        .collect()
    )
    models = {(row["variant"], row["seed"]): row for row in counted}
    variants, seeds = ({model[side] for model in models} for side in (0, 1))
    if reference not in variants:
        raise DataError(
            f"serving.predictions of run {ctx.run_id} has no row of evaluation.reference '{reference}': "
            "run jobs/train_ranker.py and jobs/score.py with this variant, or choose another reference"
        )
    expected = test.count()
    wrong = [
        f"{variant}, seed {seed}: {rows} rows, {known} of them test samples"
        for (variant, seed), (_, _, rows, known) in sorted(models.items())
        if not rows == known == expected
    ]
    wrong += [f"{v}, seed {s}: no rows" for v in sorted(variants) for s in sorted(seeds) if (v, s) not in models]
    if wrong:
        raise DataError(
            f"serving.predictions of run {ctx.run_id} does not hold the {expected} test samples of training.samples "
            f"once for every model ({'; '.join(wrong)}): run jobs/score.py again"
        )
    return expected * len(models)


def _measure(
    ctx: Context, predictions: DataFrame, scored: int, trained_on: Frozen
) -> tuple[list[Row], list[Difference]]:
    """Metrics and differences; as many as variants, seeds and slices, whatever the number of predictions."""
    config = ctx.config.evaluation
    membership = _membership(ctx, trained_on)
    base_rate = trained_on.samples.where(F.col("split") == "train").agg(F.avg("label")).head()[0]
    names = groups(predictions)
    tasks = max(ctx.spark.sparkContext.defaultParallelism, math.ceil(scored / PREDICTIONS_PER_TASK))
    in_slices = sliced(predictions, membership, names).repartition(tasks, "group")
    # larger than the predictions: in memory they would take what the sorts need
    rows = ranked(in_slices).persist(StorageLevel.DISK_ONLY)
    users = user_sums(rows).persist(StorageLevel.DISK_ONLY)
    try:
        calibration = calibration_error(rows, config.calibration_bins)
        metrics = slice_metrics(users, calibration, names, base_rate).collect()
        resampled = replicates(users, names, config.bootstrap)
    finally:
        users.unpersist()
        rows.unpersist()
    values = {key: metric.value for key, metric in metrics_by_key(metrics).items()}
    return metrics, differences(resampled, values)


def _membership(ctx: Context, trained_on: Frozen) -> DataFrame:
    """sample_id, slices: a test sample may have several rows, with other slices each."""
    known = (trained_on.samples, trained_on.items, trained_on.users)
    membership = sample_slices(*known)
    if not ctx.config.planted.share:
        return membership
    return membership.unionByName(planted_slices(*known, ctx.lake.read("bronze.planted")))


def _write(ctx: Context, metrics: list[Row], found: list[Difference]) -> None:
    """Replaces the rows of this run in both tables."""
    where = f"run_id = '{ctx.run_id}'"
    tables = {
        "evaluation.metrics": [row.asDict() for row in metrics],
        "evaluation.differences": [asdict(difference) for difference in found],
    }
    for table, rows in tables.items():
        schema = ctx.lake.schema(table)
        data = [tuple({"run_id": ctx.run_id, **row}[name] for name in schema.names) for row in rows]
        ctx.lake.overwrite(table, ctx.spark.createDataFrame(data, schema), where=where)
