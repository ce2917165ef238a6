"""Finds the ranker of an earlier day that a training may start from."""

from __future__ import annotations

from pathlib import Path

from pyspark.sql import Row
from pyspark.sql import functions as F

from akt_spark.config import ModelConfig
from akt_spark.stage import Context
from akt_spark.training.checkpoint import is_model, read_checkpoint
from akt_spark.training.plan import Parent

CHECKPOINTS, RUNS = "training.checkpoints", "ops.runs"


def earlier_rankers(ctx: Context) -> list[Row]:
    """Rows of ``training.checkpoints`` of runs of earlier days, the newest day first, of a day the last run.

    Rows of runs that maintenance has dropped are gone, so there are few.
    """
    if not (ctx.lake.exists(CHECKPOINTS) and ctx.lake.exists(RUNS)):
        return []
    runs = ctx.lake.read(RUNS).where("stage = 'train_ranker' AND status = 'done'").where(F.col("ds") < F.lit(ctx.ds))
    runs = runs.groupBy("run_id").agg(F.max("ds").alias("ds"), F.max("started_at").alias("started_at"))
    rankers = ctx.lake.read(CHECKPOINTS).join(runs, on="run_id", how="inner")
    return rankers.orderBy(F.desc("ds"), F.desc("started_at"), "run_id").collect()


def newest_parent(
    ctx: Context, earlier: list[Row], variant: str, seed: int, model: ModelConfig, code: str
) -> Parent | None:
    """The first ranker of this variant and seed, with this configuration and code, that is still there."""
    for row in earlier:
        if (row.variant, row.seed) == (variant, seed) and is_model(Path(row.path)):
            checkpoint = read_checkpoint(row.path)
            if (checkpoint.model, checkpoint.code) == (model.model_dump(mode="json"), code):
                return Parent(
                    run_id=row.run_id,
                    path=row.path,
                    config_hash=row.config_hash,
                    item_files=tuple(ctx.lake.files("training.items", row.items_version)),
                    user_files=tuple(ctx.lake.files("training.users", row.users_version)),
                )
    return None
