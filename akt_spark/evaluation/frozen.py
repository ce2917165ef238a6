"""The samples and look-up snapshots that a run was trained on, at the table versions its checkpoints pinned."""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from akt_spark.errors import MissingInput
from akt_spark.stage import Context


@dataclass(frozen=True)
class Frozen:
    """training.samples, training.items and training.users as the run saw them."""

    samples: DataFrame
    items: DataFrame
    users: DataFrame


def frozen(ctx: Context) -> Frozen:
    """Reads the versions of ``training.checkpoints``: a later night that rewrites the tables changes nothing here.

    Raises:
        MissingInput: when the run has no checkpoint.
    """
    checkpoint = ctx.lake.read("training.checkpoints").where(F.col("run_id") == ctx.run_id).head()
    if checkpoint is None:
        raise MissingInput("training.checkpoints", "train_ranker", f"has no row of run {ctx.run_id}")
    return Frozen(
        samples=ctx.lake.read("training.samples", checkpoint["samples_version"]),
        items=ctx.lake.read("training.items", checkpoint["items_version"]),
        users=ctx.lake.read("training.users", checkpoint["users_version"]),
    )
