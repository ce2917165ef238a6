"""Experiments: rankers compared on the samples of a night, in runs of their own (docs/experiments.md)."""

from __future__ import annotations

from datetime import date

from pyspark.sql import functions as F

from akt_spark.errors import MissingInput
from akt_spark.lake import Lake

SAMPLES = "training.samples"
STAGES_OF_EXPERIMENTS = ("train_ranker", "score", "evaluate", "report")


def run_id(ds: date, name: str) -> str:
    """The run of an experiment, apart from that of the night: ``2003-02-28-main``."""
    return f"{ds.isoformat()}-{name}"


def require_samples(lake: Lake, ds: date) -> None:
    """Refuses to work on samples that the night of another day has left.

    Raises:
        MissingInput: when ``training.samples`` is missing, or is of another day.
    """
    if not lake.exists(SAMPLES):
        raise MissingInput(SAMPLES, "nightly")
    built = lake.read("ops.runs").where((F.col("stage") == "build_samples") & (F.col("status") == "done"))
    newest = built.agg(F.max_by("ds", "started_at")).head()[0]
    if newest != ds:
        raise MissingInput(SAMPLES, "nightly", f"holds the samples of {newest}, not of {ds}")
