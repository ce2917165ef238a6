"""What every rank runs: all trainings of a plan, one after another, each from where it stopped."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
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
from akt_spark.training.plan import Plan, Training
from akt_spark.training.progress import say
from akt_spark.training.reader import batches, ordered_batches
from akt_spark.training.validation import validate


@dataclass
class Progress:
    """What is known of a training after an epoch, beside its weights.

    Attributes:
        metrics: validation measures of every epoch so far.
        seconds: wall time of all epochs so far, validation included.
    """

    metrics: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def best(self) -> int:
        """The epoch (from 1) with the highest validation AUC, the earliest of equals."""
        scores = [metrics["validation_auc"] for metrics in self.metrics]
        return scores.index(max(scores)) + 1


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
    epochs, steps = plan.settings.epochs, plan.steps(communicator.world)
    model = Ranker(training.model, items, users, training.seed)
    trainer = Trainer(model, training.model, plan.settings, communicator, training.seed, epochs * steps)
    progress = _resume(trainer, plan, training)
    for epoch in range(len(progress.metrics) + 1, epochs + 1):
        _run_epoch(trainer, plan, training, progress, epoch)
    require_equal(communicator, list(model.state_dict().values()))
    if communicator.rank == 0:
        _finish(trainer, plan, training, progress, items, users)


def _resume(trainer: Trainer, plan: Plan, training: Training) -> Progress:
    """Goes back to the last finished epoch that rank 0 finds, if there is one."""
    folder = Path(training.folder)
    epoch = torch.tensor([folders.last_epoch(folder)])
    trainer.communicator.broadcast([epoch])
    if not epoch.item():
        return Progress()
    weights, optimisers, notes = folders.load_epoch(folder, int(epoch))
    trainer.resume(weights, optimisers, notes["step"], notes["curve"])
    if trainer.communicator.rank == 0:
        say(plan.log, f"{training.name}: goes on after epoch {int(epoch)}")
    return Progress(notes["metrics"], notes["seconds"])


def _run_epoch(trainer: Trainer, plan: Plan, training: Training, progress: Progress, epoch: int) -> None:
    """Trains, validates and saves one epoch, and adds it to the progress."""
    communicator, settings = trainer.communicator, plan.settings
    rank, world = communicator.rank, communicator.world
    started, first = time.monotonic(), len(trainer.curve)
    samples = batches(
        plan.train,
        settings.batch_size,
        rank,
        world,
        seed=training.seed,
        epoch=epoch,
        shuffle_blocks=settings.shuffle_blocks,
        backend=settings.reader,
    )
    trainer.train_epoch(epoch, samples)
    speed = plan.steps(world) * settings.batch_size * world / (time.monotonic() - started)
    held_out = ordered_batches(plan.validation, settings.batch_size, rank, world, backend=settings.reader)
    metrics = validate(trainer.model, held_out, communicator)
    losses = [value for _, name, value in trainer.curve[first:] if name == "loss"]
    trainer.curve += [(trainer.step, name, value) for name, value in metrics.items()]
    progress.metrics.append(metrics)
    progress.seconds += time.monotonic() - started
    if rank == 0:
        folder = Path(training.folder)
        told = {"metrics": progress.metrics, "seconds": progress.seconds}
        notes = told | {"step": trainer.step, "curve": trainer.curve}
        folders.save_epoch(folder, epoch, trainer.model, trainer.state(), notes)
        folders.drop_epochs(folder, keep={epoch, progress.best})
        say(
            plan.log,
            f"{training.name}, epoch {epoch}/{settings.epochs}: loss {sum(losses) / len(losses):.4f}, "
            f"validation AUC {metrics['validation_auc']:.4f}, {speed:,.0f} samples/s",
        )


def _finish(
    trainer: Trainer, plan: Plan, training: Training, progress: Progress, items: EntityLookup, users: EntityLookup
) -> None:
    """Saves the best epoch as the training's model."""
    folder, model = Path(training.folder), trainer.model
    model.load_state_dict(folders.load_epoch(folder, progress.best)[0])
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
            samples=trainer.step * plan.settings.batch_size * trainer.communicator.world,
            seconds=progress.seconds,
            metrics=progress.metrics[progress.best - 1],
            curve=trainer.curve,
            gates=gates,
        ),
    )
