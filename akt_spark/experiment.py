"""Experiments: rankers compared on what a night has prepared, in runs of their own (docs/experiments.md)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from pydantic import ValidationError
from pyspark.sql import Row
from pyspark.sql import functions as F

from akt_spark.config import Config, SamplesConfig
from akt_spark.errors import MissingInput
from akt_spark.lake import Lake

SAMPLES = "training.samples"
STAGES_OF_EXPERIMENTS = ("train_ranker", "score", "evaluate", "report")


def name_of(files: Sequence[Path]) -> str:
    """``main``, or ``main-popularity`` of two files."""
    return "-".join(file.stem for file in files)


def run_id(ds: date, name: str) -> str:
    """The run of an experiment, apart from that of the night: ``2003-02-28-main``."""
    return f"{ds.isoformat()}-{name}"


def prepared(lake: Lake, config: Config, ds: date) -> tuple[Lake, tuple[str, ...]]:
    """The lake with samples and look-ups as the night of ``ds`` has left them, and no stage to run before training.

    Or, where the experiment asks for other samples than that night, the lake as it is and ``build_samples``.

    Raises:
        MissingInput: when there are no samples, or the last night was for another day.
    """
    night = _night(lake, ds)
    if _samples_of(night) == config.samples:
        return lake.pinned(night["outputs"]), ()
    return lake, ("build_samples",)


def _night(lake: Lake, ds: date) -> Row:
    """The newest ``build_samples`` of the night, as ``ops.runs`` has it; refuses another day."""
    if not lake.exists(SAMPLES):
        raise MissingInput(SAMPLES, "nightly")
    built = lake.read("ops.runs").where((F.col("stage") == "build_samples") & (F.col("status") == "done"))
    of_nights = built.where(F.col("run_id") == F.col("ds").cast("string"))
    night = of_nights.orderBy(F.desc("started_at")).head()
    if night is None or night["ds"] != ds:
        found = night["ds"] if night else "no night"
        raise MissingInput(SAMPLES, "nightly", f"holds the samples of {found}, not of {ds}")
    return night


def _samples_of(night: Row) -> SamplesConfig | None:
    """What the night's samples were made by; None where that cannot be said in today's keys."""
    try:
        return SamplesConfig.model_validate(json.loads(night["config"])["samples"])
    except ValidationError:
        return None
