"""The stage ``train_ranker``: all variants and seeds in one Horovod job over one pinned version of the samples."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame, Row

import akt_spark.ranker
import akt_spark.training
from akt_spark.config import fingerprint
from akt_spark.errors import DataError, MissingInput
from akt_spark.extras import require_extra
from akt_spark.lake import Lake, Table
from akt_spark.revision import source_revision
from akt_spark.stage import Context, Outcome
from akt_spark.training.checkpoint import Checkpoint, drop_steps, finished, put_back, read_checkpoint
from akt_spark.training.launch import launch
from akt_spark.training.mlflow_log import log_finished
from akt_spark.training.parents import earlier_rankers, newest_parent
from akt_spark.training.plan import Plan, Training
from akt_spark.training.progress import shown
from akt_spark.training.ranks import train_all
from akt_spark.training.samples import Split, pinned_splits
from akt_spark.training.turns import none_begun

SAMPLES, ITEMS, USERS = "training.samples", "training.items", "training.users"
# a training goes on with others of these
WHERE = {
    "ranks",
    "parallel",
    "backend",
    "device",
    "reader",
    "checkpoint_steps",
    "progress_seconds",
    "tensorboard",
    "mlflow",
}
CHECKPOINTS, CURVES, GATES = "training.checkpoints", "training.curves", "training.gates"


def run(ctx: Context) -> Outcome:
    """Trains what is not trained yet, and writes the tables about all rankers of this run.

    Raises:
        MissingInput: when the samples or look-ups are missing.
        DataError: when they cannot be trained on.
        ConfigError: when Spark cannot run all ranks at once, or a package is missing that a key asks for.
    """
    settings = ctx.config.training
    for extra in ("tensorboard", "mlflow"):
        if getattr(settings, extra):
            require_extra(extra, f"training.{extra}")
    plan, splits = _plan(ctx)
    for training in plan.trainings:
        put_back(Path(training.folder))
    open_trainings = tuple(training for training in plan.trainings if not finished(Path(training.folder)))
    _require_trainable(ctx, plan, splits)
    if open_trainings:
        todo = replace(plan, trainings=open_trainings)
        with shown(plan.log), none_begun(plan):
            launch(ctx.spark, train_all, (todo,), settings.ranks, settings.backend, settings.parallel)
    for training in plan.trainings:
        drop_steps(Path(training.folder), keep=set())
    models = [Path(training.folder, "model") for training in plan.trainings]
    checkpoints = [(str(model), read_checkpoint(model)) for model in models]
    _write(ctx, CHECKPOINTS, [_checkpoint_row(path, checkpoint) for path, checkpoint in checkpoints])
    _write(ctx, CURVES, [row for _, checkpoint in checkpoints for row in _curve_rows(checkpoint)])
    _write(ctx, GATES, [_named(checkpoint) | gate for _, checkpoint in checkpoints for gate in checkpoint.gates])
    kept = len(plan.trainings) - len(open_trainings)
    notes = [f"{kept} of {len(plan.trainings)} rankers were trained before and are kept"] if kept else []
    notes += [_note(training, plan, read) for training, (_, read) in zip(plan.trainings, checkpoints, strict=True)]
    if settings.mlflow:
        added = log_finished(settings.mlflow, settings, checkpoints)
        notes.append(f"{added} rankers added to MLflow at {settings.mlflow}")
    return Outcome(rows_in=splits["train"].rows, rows_out=len(checkpoints), notes=notes)


def _plan(ctx: Context) -> tuple[Plan, dict[str, Split]]:
    versions = {table: _version(ctx.lake, table) for table in (SAMPLES, ITEMS, USERS)}
    splits = pinned_splits(ctx.lake, versions[SAMPLES])
    earlier = earlier_rankers(ctx) if ctx.config.training.warm_start else []
    plan = Plan(
        trainings=tuple(
            _training(ctx, variant, seed, versions, earlier)
            for seed in ctx.config.training.seeds
            for variant in ctx.config.ranker.variants
        ),
        settings=ctx.config.training,
        train=splits["train"].blocks,
        validation=splits["validation"].blocks,
        item_files=tuple(ctx.lake.files(ITEMS, versions[ITEMS])),
        user_files=tuple(ctx.lake.files(USERS, versions[USERS])),
        versions=versions,
        log=str(ctx.lake.artifact("rankers", ctx.run_id, "progress.log")),
    )
    return plan, splits


def _version(lake: Lake, table: str) -> int:
    version = lake.version(table)
    if version < 0:
        raise MissingInput(table, Table.load(table).writer)
    return version


def _training(ctx: Context, variant: str, seed: int, versions: dict[str, int], earlier: list[Row]) -> Training:
    """Equal hash, equal result: configuration, data, code and what it starts from are in it."""
    model = ctx.config.ranker.variant(variant)
    training = ctx.config.training
    settings = training.model_dump(mode="json", exclude={"seeds", *WHERE}) | {"lanes": training.shares}
    revision = source_revision(*(Path(package.__path__[0]) for package in (akt_spark.ranker, akt_spark.training)))
    code = source_revision(Path(akt_spark.ranker.__path__[0]))
    parent = newest_parent(ctx, earlier, variant, seed, model, code)
    start = parent.config_hash if parent else None
    identity = fingerprint(model.model_dump(mode="json"), settings, seed, versions, revision, start)
    folder = ctx.lake.artifact("rankers", ctx.run_id, f"{variant}-seed{seed}-{identity}")
    return Training(variant, seed, model, str(folder), identity, code, parent)


def _require_trainable(ctx: Context, plan: Plan, splits: dict[str, Split]) -> None:
    for name, days in (("train", "split.test_days and split.validation_days"), ("validation", "split.validation_days")):
        rows, clicks = splits[name].rows, splits[name].clicks
        if not 0 < clicks < rows:
            raise DataError(
                f"{SAMPLES} has {rows} {name} samples with {clicks} clicks, but needs clicks and non-clicks: "
                f"change {days} and run jobs/build_samples.py again"
            )
    if plan.steps == 0:
        rows, lanes = splits["train"].rows, ctx.config.training.shares
        raise DataError(
            f"{rows} training samples do not fill one batch of each of {lanes} lanes (training.lanes, or "
            f"training.ranks): training.batch_size is {ctx.config.training.batch_size}, set it to at most "
            f"{rows // lanes}"
        )


def _write(ctx: Context, table: str, rows: list[dict[str, Any]]) -> None:
    """Replaces the rows of this run."""
    rows = [{"run_id": ctx.run_id} | row for row in rows]
    frame: DataFrame = ctx.spark.createDataFrame(rows, ctx.lake.schema(table))
    ctx.lake.overwrite(table, frame, where=f"run_id = '{ctx.run_id}'")


def _named(checkpoint: Checkpoint) -> dict[str, Any]:
    return {"variant": checkpoint.variant, "seed": checkpoint.seed}


def _checkpoint_row(path: str, checkpoint: Checkpoint) -> dict[str, Any]:
    return _named(checkpoint) | {
        "step": checkpoint.step,
        "epoch": checkpoint.epoch,
        "path": path,
        "samples_version": checkpoint.versions[SAMPLES],
        "items_version": checkpoint.versions[ITEMS],
        "users_version": checkpoint.versions[USERS],
        "config_hash": checkpoint.config_hash,
        "parameters": checkpoint.parameters,
        "samples": checkpoint.samples,
        "seconds": checkpoint.seconds,
        "peak_gib": checkpoint.peak_gib,
        "metrics": checkpoint.metrics | {"reader_wait": checkpoint.reader_wait},
    }


def _curve_rows(checkpoint: Checkpoint) -> list[dict[str, Any]]:
    return [
        _named(checkpoint) | {"step": step, "metric": metric, "value": value}
        for step, metric, value in [*checkpoint.curve, *checkpoint.timings]
    ]


def _note(training: Training, plan: Plan, checkpoint: Checkpoint) -> str:
    epochs = checkpoint.step // plan.steps_of(training)
    started = f"started from run {training.parent.run_id}, " if training.parent else ""
    return (
        f"{training.name}: {started}{checkpoint.parameters:,} parameters, "
        f"{checkpoint.step:,} steps, {checkpoint.samples / checkpoint.seconds:,.0f} samples/s, "
        f"reader wait {checkpoint.reader_wait:.1%}, "
        f"validation AUC {checkpoint.metrics['validation_auc']:.4f} (epoch {checkpoint.epoch} of {epochs})"
    )
