"""The stage ``score``: every test sample by every ranker of the run, in Spark's workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import pyarrow as pa
import torch
from pyspark.sql import Row
from pyspark.sql import functions as F

from akt_spark.errors import DataError, MissingInput
from akt_spark.lake import Lake
from akt_spark.ranker.akt_rec import Ranker
from akt_spark.stage import Context, Outcome
from akt_spark.training.checkpoint import load_ranker
from akt_spark.training.columns import to_arrays
from akt_spark.training.lookup import load_lookup
from akt_spark.training.reader import COLUMNS, Batch, to_batch

SAMPLES, PREDICTIONS, CHECKPOINTS = "training.samples", "serving.predictions", "training.checkpoints"
SCHEMA = "variant STRING, seed INT, sample_id STRING, user_idx INT, item_idx INT, label FLOAT, score FLOAT"


@dataclass(frozen=True)
class Models:
    """The rankers of a run, as a worker loads them: (variant, seed, folder) each, and the files of their look-ups."""

    rankers: tuple[tuple[str, int, str], ...]
    item_files: tuple[str, ...]
    user_files: tuple[str, ...]


def run(ctx: Context) -> Outcome:
    """Predicts the click probability of all test samples with all checkpoints of this run.

    Raises:
        MissingInput: when nothing was trained.
        DataError: when the test period has no samples, or the rankers were trained on different versions.
    """
    trained = ctx.lake.read(CHECKPOINTS).where(F.col("run_id") == ctx.run_id).orderBy("variant", "seed").collect()
    if not trained:
        raise MissingInput(CHECKPOINTS, "train_ranker", f"has no rows of run {ctx.run_id}")
    models, samples_version = models_of(ctx.lake, trained)
    samples = ctx.lake.read(SAMPLES, samples_version).where(F.col("split") == "test").select("sample_id", *COLUMNS)
    count = samples.count()
    if count == 0:
        raise DataError(f"{SAMPLES} version {samples_version} has no test samples: change split.test_days or --ds")
    predictions = samples.mapInArrow(_scorer(models), SCHEMA).withColumn("run_id", F.lit(ctx.run_id))
    ctx.lake.overwrite(PREDICTIONS, predictions, where=f"run_id = '{ctx.run_id}'")
    notes = [f"{count:,} test samples scored by {len(trained)} rankers"]
    return Outcome(rows_in=count, rows_out=count * len(trained), notes=notes)


def models_of(lake: Lake, trained: Sequence[Row]) -> tuple[Models, int]:
    """What workers load for some rows of ``training.checkpoints``, and the version of the samples that they saw.

    Raises:
        DataError: when the rankers were trained on different versions.
    """
    versions = {(row.samples_version, row.items_version, row.users_version) for row in trained}
    if len(versions) > 1:
        run = trained[0].run_id
        raise DataError(f"the rankers of run {run} saw different versions {versions}: run jobs/train_ranker.py")
    samples_version, items_version, users_version = versions.pop()
    models = Models(
        tuple((row.variant, row.seed, row.path) for row in trained),
        tuple(lake.files("training.items", items_version)),
        tuple(lake.files("training.users", users_version)),
    )
    return models, samples_version


def _scorer(models: Models) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def score(samples: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for rows in samples:
            batch = to_batch(to_arrays(rows, COLUMNS))
            for variant, seed, ranker in load_rankers(models):
                yield _predictions(rows, variant, seed, ranker, batch)

    return score


@cache
def load_rankers(models: Models) -> list[tuple[str, int, Ranker]]:
    """The rankers, loaded once a Python worker: this module is imported, not pickled, so its cache outlives a task."""
    torch.set_num_threads(1)  # Spark runs one worker a core
    items, users = load_lookup(models.item_files, "item"), load_lookup(models.user_files, "user")
    return [(variant, seed, load_ranker(path, items, users)) for variant, seed, path in models.rankers]


@torch.no_grad()
def click_probability(ranker: Ranker, batch: Batch) -> np.ndarray:
    """Click probabilities (B,) float32 of a batch."""
    return torch.sigmoid(ranker(batch)).float().numpy()


def _predictions(rows: pa.RecordBatch, variant: str, seed: int, ranker: Ranker, batch: Batch) -> pa.RecordBatch:
    scores = click_probability(ranker, batch)
    columns = {
        "variant": pa.array([variant] * len(scores)),
        "seed": pa.array([seed] * len(scores), pa.int32()),
        **{name: rows.column(name) for name in ("sample_id", "user_idx", "item_idx", "label")},
        "score": pa.array(scores, pa.float32()),
    }
    return pa.RecordBatch.from_pydict(columns)
