"""Which ranker serves, what it knows, and what the lake knows now."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import date

from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F

from akt_spark.config import FeaturesConfig, ServingConfig
from akt_spark.errors import ConfigError, MissingInput
from akt_spark.features.events import EVENTS
from akt_spark.features.log import click_log, known_of
from akt_spark.lake import Lake
from akt_spark.stage import Context
from akt_spark.training.score import CHECKPOINTS, SAMPLES, Models, models_of

RUNS = "ops.runs"
LOGS = {"item": "features.item_activity", "user": "features.user_activity"}
NIGHT = r"^\d{4}-\d{2}-\d{2}$"  # the run of a night, not of an experiment


@dataclass(frozen=True)
class Served:
    """A trained ranker, and the tables that it is asked with, at the versions that they had when it was chosen.

    Attributes:
        ctx: the tables, and the closed day of its run.
        checkpoint: its row of ``training.checkpoints``.
        models: what workers load.
        features: the section of the configuration by which its samples were made, whatever it says now.
    """

    ctx: Context
    checkpoint: Row
    models: Models
    features: FeaturesConfig

    @property
    def name(self) -> str:
        """As a person reads it."""
        return f"{self.checkpoint.variant} seed {self.checkpoint.seed} of run {self.checkpoint.run_id}"

    @property
    def identity(self) -> tuple[str, str, int]:
        """What tells it from other rankers."""
        return self.checkpoint.run_id, self.checkpoint.variant, self.checkpoint.seed

    @property
    def columns(self) -> dict[str, Column]:
        """The same as columns of a table."""
        return {name: F.lit(self.checkpoint[name]) for name in ("run_id", "variant", "seed")}

    def index(self, entity: str) -> DataFrame:
        """<entity>_id and idx of all that it knows; others came to the lake after its samples were made."""
        lookup = self.ctx.lake.read(f"training.{entity}s", self.checkpoint[f"{entity}s_version"])
        return lookup.select(f"{entity}_id", "idx")

    def events_of(self, users: DataFrame) -> DataFrame:
        """Rows of ``bronze.events`` of some users (user_id), up to now: those that histories are made of."""
        known = known_of(self.ctx, "user", click_log(self.ctx))
        return known.join(users.select("user_id").distinct(), on="user_id", how="left_semi")

    def log_of(self, entity: str, ids: DataFrame) -> DataFrame:
        """Rows of ``features.<entity>_activity`` of some ids (<entity>_id), up to now."""
        wanted = ids.select(f"{entity}_id").distinct()
        return self.ctx.lake.read(LOGS[entity]).join(wanted, on=f"{entity}_id", how="left_semi")


def served(ctx: Context) -> Served:
    """The ranker that the section ``serving`` of the configuration names: by default the best of the newest night.

    Raises:
        MissingInput: when nothing was trained.
        ConfigError: when the run has no such ranker.
    """
    checkpoint = _chosen(ctx.lake, ctx.config.serving)
    models, samples_version = models_of(ctx.lake, [checkpoint])
    lake = ctx.lake.pinned({table: ctx.lake.version(table) for table in (EVENTS, *LOGS.values())})
    ds = date.fromisoformat(checkpoint.run_id[:10])
    return Served(replace(ctx, lake=lake, ds=ds), checkpoint, models, _features(ctx, samples_version))


def _chosen(lake: Lake, config: ServingConfig) -> Row:
    trained = lake.read_rows(CHECKPOINTS)
    run = config.run or trained.where(F.col("run_id").rlike(NIGHT)).agg(F.max("run_id")).head()[0]
    rankers = trained.where(F.col("run_id") == F.lit(run)).collect()
    if not rankers:
        detail = f"has no rows of run {run} (serving.run)" if run else "has no night, only experiments: set serving.run"
        raise MissingInput(CHECKPOINTS, "train_ranker", detail)
    wanted = {"variant": config.variant, "seed": config.seed}
    fitting = [row for row in rankers if all(value in (None, row[key]) for key, value in wanted.items())]
    if not fitting:
        there = ", ".join(sorted(f"{row.variant} seed {row.seed}" for row in rankers))
        asked = ", ".join(f"serving.{key} {value}" for key, value in wanted.items() if value is not None)
        raise ConfigError(f"run {run} has no ranker of {asked}; it has {there}")
    return min(fitting, key=lambda row: (-row.metrics["validation_auc"], row.variant, row.seed))


def _features(ctx: Context, samples_version: int) -> FeaturesConfig:
    """How the samples were made; as configured now, where ``ops.runs`` does not know."""
    if not ctx.lake.exists(RUNS):
        return ctx.config.features
    made = (F.col("stage") == "build_samples") & (F.col("status") == "done")
    made &= F.col("outputs")[SAMPLES] == samples_version
    newest = ctx.lake.read(RUNS).where(made).orderBy(F.desc("started_at")).select("config").head()
    return FeaturesConfig.model_validate(json.loads(newest["config"])["features"]) if newest else ctx.config.features
