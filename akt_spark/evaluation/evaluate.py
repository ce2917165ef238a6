"""evaluate: serving.predictions -> evaluation.metrics and evaluation.differences."""

from __future__ import annotations

from dataclasses import asdict

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from akt_spark.errors import DataError, MissingInput
from akt_spark.evaluation.frozen import Frozen, frozen
from akt_spark.evaluation.metrics import calibration_error, ranked, slice_metrics, sliced, user_sums
from akt_spark.evaluation.results import Metric, Results
from akt_spark.evaluation.significance import Difference, differences, replicates
from akt_spark.evaluation.slices import sample_slices
from akt_spark.evaluation.wording import caveats, comparison_lines, verdicts
from akt_spark.stage import Context, Outcome


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
    metrics, found = _measure(ctx, predictions, trained_on)
    scored = _check_pairing(ctx, predictions, trained_on, metrics)
    _write(ctx, metrics, found)
    values = {(m["variant"], m["seed"], m["slice"], m["metric"]): Metric(m["value"], m["n"], m["stderr"]) for m in metrics}
    results = Results.of(ctx, values, found)
    notes = [*comparison_lines(results), *verdicts(results), *caveats(results)]
    return Outcome(rows_in=scored, rows_out=len(metrics), notes=notes)


def _measure(ctx: Context, predictions: DataFrame, trained_on: Frozen) -> tuple[list[Row], list[Difference]]:
    """Metrics and differences; as many as variants, seeds and slices, whatever the number of predictions."""
    config = ctx.config.evaluation
    membership = sample_slices(trained_on.samples, trained_on.items, trained_on.users)
    base_rate = trained_on.samples.where(F.col("split") == "train").agg(F.avg("label")).head()[0]
    rows = ranked(sliced(predictions, membership), config.calibration_bins).persist()
    users = user_sums(rows).persist()
    try:
        metrics = slice_metrics(users, calibration_error(rows), base_rate).collect()
        resampled = [row.asDict() for row in replicates(users, config.bootstrap).collect()]
    finally:
        users.unpersist()
        rows.unpersist()
    return metrics, differences(resampled)


def _check_pairing(ctx: Context, predictions: DataFrame, trained_on: Frozen, metrics: list[Row]) -> int:
    """Refuses a comparison of models that were scored on different rows. Returns the number of predictions."""
    reference = ctx.config.evaluation.reference
    measured = {(m["variant"], m["seed"]): m["n"] for m in metrics if (m["slice"], m["metric"]) == ("all", "n")}
    if reference not in {variant for variant, _ in measured}:
        raise DataError(
            f"serving.predictions of run {ctx.run_id} has no row of evaluation.reference '{reference}': "
            "run jobs/train_ranker.py and jobs/score.py with this variant, or choose another reference"
        )
    expected = trained_on.samples.where(F.col("split") == "test").count()
    total = predictions.count()
    wrong = {f"{variant}, seed {seed}": n for (variant, seed), n in measured.items() if n != expected}
    if wrong or total != expected * len(measured):
        raise DataError(
            f"serving.predictions of run {ctx.run_id} has {total} rows, which are not the {expected} test samples of "
            f"training.samples for each of {len(measured)} models ({wrong or 'other sample ids'}): run jobs/score.py again"
        )
    return total


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
