"""What every rank runs: all trainings of a plan, one after another, each from where it stopped."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from akt_spark.ranker.akt_rec import Ranker
from akt_spark.ranker.lookup import EntityLookup
from akt_spark.training import checkpoint as folders
from akt_spark.training.exchange import Communicator, require_equal
from akt_spark.training.gates import gate_bins
from akt_spark.training.lookup import load_lookup
from akt_spark.training.loop import Trainer
from akt_spark.training.memory import forget_peak, peak_gib
from akt_spark.training.plan import Plan, Training
from akt_spark.training.progress import say
from akt_spark.training.reader import batches, ordered_batches
from akt_spark.training.validation import validate


@dataclass
class Progress:
    """What is known of a training, beside its weights.

    Attributes:
        metrics: validation measures of every finished epoch.
        seconds: wall time so far, validation included.
        peak_gib: the most memory of rank 0 so far.
    """

    metrics: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    peak_gib: float = 0.0

    @property
    def best(self) -> int:
        """The epoch (from 1) with the highest validation AUC, the earliest of equals."""
        scores = [metrics["validation_auc"] for metrics in self.metrics]
        return scores.index(max(scores)) + 1

    def stalled(self, patience: int | None) -> bool:
        """Whether so many epochs have passed since the best one."""
        return patience is not None and bool(self.metrics) and len(self.metrics) - self.best >= patience


def train_all(communicator: Communicator, plan: Plan) -> None:
    """Trains every ranker of the plan; models are found in their folders afterwards."""
    torch.set_num_threads(1)  # ranks share the cores of their machine
    torch.sparse.check_sparse_tensor_invariants.disable()  # the default, but torch warns until it is said
    items, users = load_lookup(plan.item_files, "item"), load_lookup(plan.user_files, "user")
    for training in plan.trainings:
        _train(communicator, plan, training, items, users)


def _train(
    communicator: Communicator, plan: Plan, training: Training, items: EntityLookup, users: EntityLookup
) -> None:
    epochs, patience = training.epochs(plan.settings), plan.settings.patience
    forget_peak()
    model = Ranker(training.model, items, users, training.seed)
    trainer = Trainer(model, training.model, plan.settings, communicator, training.seed, epochs * plan.steps)
    progress = _resume(trainer, plan, training)
    while len(progress.metrics) < epochs and not progress.stalled(patience):
        _run_epoch(trainer, plan, training, progress, len(progress.metrics) + 1)
    require_equal(communicator, list(model.state_dict().values()))
    if communicator.rank == 0:
        _finish(trainer, plan, training, progress, items, users)


def _resume(trainer: Trainer, plan: Plan, training: Training) -> Progress:
    """Goes back to the last step that rank 0 finds, if there is one."""
    folder = Path(training.folder)
    last = torch.tensor([max(folders.saved_steps(folder), default=0)])
    trainer.communicator.broadcast([last])
    step = int(last)
    if not step:
        return Progress()
    weights, optimisers, saved = folders.load_step(folder, step)
    trainer.resume(weights, optimisers, saved)
    progress = Progress(saved["metrics"], saved["seconds"], saved["peak_gib"])
    if trainer.communicator.rank == 0:
        within = step - len(progress.metrics) * plan.steps
        where = f"epoch {len(progress.metrics)}" + (f" and {within:,} steps" if within else "")
        say(plan.log, f"{training.name}: goes on after {where}")
    return progress


def _run_epoch(trainer: Trainer, plan: Plan, training: Training, progress: Progress, epoch: int) -> None:
    """Trains an epoch, from where it stands, validates and saves it, and adds it to the progress."""
    communicator, settings = trainer.communicator, plan.settings
    rank, world, first_step = communicator.rank, communicator.world, trainer.step
    started, first, before = time.monotonic(), len(trainer.curve), progress.seconds

    def save() -> None:
        """The position is seed, epoch and step, over the pinned version of the samples."""
        progress.seconds = before + time.monotonic() - started
        progress.peak_gib = max(progress.peak_gib, peak_gib())
        if rank == 0:
            position = {"seed": training.seed, "epoch": epoch, "versions": plan.versions}
            saved = position | trainer.progress() | asdict(progress)
            folder, step = Path(training.folder), trainer.step
            folders.save_step(folder, step, trainer.model, trainer.optimiser_state(), saved)
            folders.drop_steps(folder, keep={step, progress.best * plan.steps} if progress.metrics else {step})

    def save_inside() -> None:
        if trainer.step < epoch * plan.steps:  # the end is saved with what validation says
            save()

    streams = [
        batches(
            plan.train,
            settings.batch_size,
            lane,
            settings.shares,
            seed=training.seed,
            epoch=epoch,
            shuffle_blocks=settings.shuffle_blocks,
            skip=first_step - (epoch - 1) * plan.steps,
            backend=settings.reader,
        )
        for lane in trainer.lanes
    ]
    trainer.train_epoch(zip(*streams, strict=True), save_inside)
    taken = (trainer.step - first_step) * settings.batch_size * settings.shares
    speed = taken / (time.monotonic() - started)
    held_out = ordered_batches(plan.validation, settings.batch_size, rank, world, backend=settings.reader)
    metrics = validate(trainer.model, held_out, communicator)
    losses = [value for _, name, value in trainer.curve[first:] if name == "loss"]
    trainer.curve += [(trainer.step, name, value) for name, value in metrics.items()]
    progress.metrics.append(metrics)
    save()
    if rank == 0:
        loss = f"loss {sum(losses) / len(losses):.4f}, " if losses else ""
        say(
            plan.log,
            f"{training.name}, epoch {epoch}/{training.epochs(settings)}: {loss}"
            f"validation AUC {metrics['validation_auc']:.4f}, {speed:,.0f} samples/s",
        )


def _finish(
    trainer: Trainer, plan: Plan, training: Training, progress: Progress, items: EntityLookup, users: EntityLookup
) -> None:
    """Saves the best epoch as the training's model."""
    folder, model = Path(training.folder), trainer.model
    model.load_state_dict(folders.load_step(folder, progress.best * plan.steps)[0])
    gates: list[dict[str, Any]] = []
    for entity, lookup in (("item", items), ("user", users)):
        gates += gate_bins(entity, model.gate(entity), lookup)
    folders.save_finished(
        folder,
        model,
        folders.Checkpoint(
            variant=training.variant,
            seed=training.seed,
            model=training.model.model_dump(mode="json"),
            versions=plan.versions,
            config_hash=training.config_hash,
            epoch=progress.best,
            step=trainer.step,
            parameters=sum(parameter.numel() for parameter in model.parameters()),
            samples=trainer.step * plan.settings.batch_size * plan.settings.shares,
            seconds=progress.seconds,
            peak_gib=progress.peak_gib,
            metrics=progress.metrics[progress.best - 1],
            curve=trainer.curve,
            gates=gates,
        ),
    )
