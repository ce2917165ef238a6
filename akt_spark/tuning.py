"""Hyper-parameters chosen on validation: the same grid for every variant, so the same number of trainings."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from statistics import mean
from typing import Any

import yaml
from pydantic import ValidationError
from pyspark.sql import functions as F

from akt_spark.config import Config, RankerConfig
from akt_spark.errors import ConfigError
from akt_spark.lake import Lake


@dataclass(frozen=True)
class Choice:
    """What validation prefers for a variant.

    Attributes:
        values: the keys of the grid with the values of the best point.
        auc: its validation AUC, the mean over seeds.
        worst: that of the point with the lowest one.
    """

    values: dict[str, Any]
    auc: float
    worst: float


def points(config: Config) -> list[dict[str, Any]]:
    """All combinations of the grid's values."""
    grid = config.tuning.grid
    return [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]


def with_grid(config: Config) -> Config:
    """The configuration whose variants are those of the given one, each at every point, with the seeds of tuning.

    Raises:
        ConfigError: when a point is no model.
    """
    variants = {
        _at(name, number): overrides | point
        for number, point in enumerate(points(config))
        for name, overrides in config.ranker.variants.items()
    }
    try:
        ranker = RankerConfig(model=config.ranker.model, variants=variants)
    except ValidationError as error:
        raise ConfigError(f"tuning.grid: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from None
    training = config.training.model_copy(update={"seeds": config.tuning.seeds})
    return config.model_copy(update={"ranker": ranker, "training": training})


def choices(lake: Lake, run_id: str, config: Config) -> dict[str, Choice]:
    """The best point of every variant by validation AUC, the earliest of equals.

    Args:
        lake: has the checkpoints of `with_grid`.
        run_id: the run that trained them.
        config: before `with_grid`.
    """
    rows = lake.read("training.checkpoints").where(F.col("run_id") == run_id).select("variant", "metrics").collect()
    aucs: dict[str, list[float]] = {}
    for row in rows:
        aucs.setdefault(row["variant"], []).append(row["metrics"]["validation_auc"])
    return {name: _best(name, aucs, points(config)) for name in config.ranker.variants}


def _best(name: str, aucs: dict[str, list[float]], points: list[dict[str, Any]]) -> Choice:
    means = [mean(aucs[_at(name, number)]) for number in range(len(points))]
    return Choice(points[means.index(max(means))], max(means), min(means))


def tuned_experiment(config: Config, chosen: dict[str, Choice]) -> str:
    """The text of an experiment file: the variants with what validation prefers, for on top of the file they are of."""
    variants = {name: config.ranker.variants[name] | choice.values for name, choice in chosen.items()}
    trainings = len(points(config)) * len(config.tuning.seeds)
    grid = yaml.safe_dump(config.tuning.grid, default_flow_style=True, width=10_000).strip()
    lines = [
        f"# Written by jobs/tune.py: of {trainings} trainings a variant, over {grid},",
        "# what validation prefers. Validation AUC of the best and of the worst:",
        *(f"#   {name}: {choice.auc:.4f}, {choice.worst:.4f}" for name, choice in chosen.items()),
    ]
    tuned = yaml.safe_dump({"ranker": {"variants": variants}}, sort_keys=False, default_flow_style=None, width=10_000)
    return "\n".join(lines) + "\n\n" + tuned


def _at(name: str, number: int) -> str:
    """The name of a variant at a point."""
    return f"{name}.{number}"
