"""What every rank runs: the trainings of a plan that fall to its group, one after another, from where they stopped."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch

from akt_spark.ranker.akt_rec import Ranker
from akt_spark.ranker.lookup import EntityLookup
from akt_spark.training import checkpoint as folders
from akt_spark.training.device import device_of, moved, prepare
from akt_spark.training.exchange import Communicator, require_equal
from akt_spark.training.gates import gate_bins
from akt_spark.training.live import Live
from akt_spark.training.lookup import load_lookup
from akt_spark.training.loop import Point, Trainer
from akt_spark.training.memory import forget_peak, peak_gib
from akt_spark.training.plan import Plan, Training
from akt_spark.training.progress import say
from akt_spark.training.reader import batches, ordered_batches
from akt_spark.training.turns import trainings_of
from akt_spark.training.validation import validate
from akt_spark.training.warm_start import start_from


@dataclass
class Progress:
    """What is known of a training, beside its weights.

    Attributes:
        metrics: validation measures of every finished epoch; those of epochs before the model as a whole is trained
            have other names.
        seconds: wall time so far, validation included.
        timings: samples_per_second and reader_wait (share of the steps' time, a mean over ranks) of every finished
            epoch, as points of a curve; of an epoch that was killed, of its last part.
        peak_gib: the most memory of rank 0 so far.
    """

    metrics: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    timings: list[Point] = field(default_factory=list)
    peak_gib: float = 0.0

    @property
    def best(self) -> int:
        """The epoch (from 1) with the highest validation AUC, the earliest of equals."""
        return max(self._scores, key=self._scores.__getitem__)

    @property
    def judged(self) -> bool:
        """Whether there is a best epoch yet."""
        return bool(self._scores)

    @property
    def _scores(self) -> dict[int, float]:
        """Validation AUC by epoch."""
        numbered = enumerate(self.metrics, 1)
        return {epoch: metrics["validation_auc"] for epoch, metrics in numbered if "validation_auc" in metrics}

    def stalled(self, patience: int | None) -> bool:
        """Whether so many epochs have passed since the best one."""
        return patience is not None and self.judged and len(self.metrics) - self.best >= patience


def train_all(communicator: Communicator, plan: Plan) -> None:
    """Trains every ranker of the plan; models are found in their folders afterwards."""
    device = device_of(communicator, plan.settings.device)
    prepare(device)
    items, users = load_lookup(plan.item_files, "item"), load_lookup(plan.user_files, "user")
    group = communicator.split(plan.settings.parallel)
    for training in trainings_of(group, plan):
        _train(group, plan, training, items, users, device)
    communicator.gather(torch.zeros(1))  # a rank that ends takes along what carries the messages of the others


def _train(
    communicator: Communicator,
    plan: Plan,
    training: Training,
    items: EntityLookup,
    users: EntityLookup,
    device: torch.device,
) -> None:
    epochs, before = training.epochs(plan.settings), training.model.pretrain_epochs
    patience, steps = plan.settings.patience, plan.steps_of(training)
    forget_peak()
    model = Ranker(training.model, items, users, training.seed)
    if training.parent and communicator.rank == 0 and not folders.saved_steps(Path(training.folder)):
        carried = start_from(model, training.parent, items, users)  # the other ranks get it from this one
        say(plan.log, f"{training.name}: starts from run {training.parent.run_id}: {carried}")
    trainer = Trainer(
        model.to(device),
        training.model,
        plan.settings,
        communicator,
        training.seed,
        (epochs - before) * steps,
        before * steps,
    )
    progress = _resume(trainer, plan, training)
    live = Live(trainer, training, plan)
    live.show(progress.timings)
    while len(progress.metrics) < epochs and not progress.stalled(patience):
        _run_epoch(trainer, plan, training, progress, len(progress.metrics) + 1, live)
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
    progress = Progress(**{part.name: saved[part.name] for part in fields(Progress)})
    if trainer.communicator.rank == 0:
        within = step - len(progress.metrics) * plan.steps_of(training)
        where = f"epoch {len(progress.metrics)}" + (f" and {within:,} steps" if within else "")
        say(plan.log, f"{training.name}: goes on after {where}")
    return progress


def _run_epoch(trainer: Trainer, plan: Plan, training: Training, progress: Progress, epoch: int, live: Live) -> None:
    """Trains an epoch, from where it stands, validates and saves it, and adds it to the progress."""
    settings, first_step, first_point = plan.settings, trainer.step, len(trainer.curve)
    started, before = time.monotonic(), progress.seconds

    def save() -> None:
        progress.seconds = before + time.monotonic() - started
        _save(trainer, plan, training, progress, epoch)

    def save_inside() -> None:
        if trainer.step < epoch * plan.steps_of(training):  # the end is saved with what validation says
            save()

    trainer.train_epoch(live.epoch(_steps_left(trainer, plan, training, epoch), epoch), save_inside)
    speed = (trainer.step - first_step) * settings.batch_size * settings.shares / (time.monotonic() - started)
    reader_wait = torch.tensor([live.pace.reader_wait], dtype=torch.float64)
    trainer.communicator.average([reader_wait])
    progress.timings += [(trainer.step, "samples_per_second", speed), (trainer.step, "reader_wait", float(reader_wait))]
    alone, loss_of_phase = trainer.pretraining, "pretraining_loss" if trainer.pretraining else "loss"
    losses = [value for _, name, value in trainer.curve[first_point:] if name == loss_of_phase]
    metrics = _validated(trainer, plan)
    auc = metrics["validation_auc"]
    if alone:  # no epoch of these is the best one
        metrics = {name.replace("validation", "pretraining"): value for name, value in metrics.items()}
    trainer.curve += [(trainer.step, name, value) for name, value in metrics.items()]
    progress.metrics.append(metrics)
    live.show(progress.timings[-2:])
    save()
    if trainer.communicator.rank == 0:
        loss = f"loss {sum(losses) / len(losses):.4f}, " if losses else ""
        say(
            plan.log,
            f"{training.name}, epoch {epoch}/{training.epochs(settings)}{' (content alone)' if alone else ''}: {loss}"
            f"validation AUC {auc:.4f}, {speed:,.0f} samples/s, reader wait {float(reader_wait):.1%}",
        )


def _steps_left(
    trainer: Trainer, plan: Plan, training: Training, epoch: int
) -> Iterator[Sequence[dict[str, torch.Tensor]]]:
    """What is left of an epoch: for every step a batch of each of this rank's lanes."""
    settings, steps = plan.settings, plan.steps_of(training)
    streams = [
        batches(
            plan.blocks_of(training, epoch),
            settings.batch_size,
            lane,
            settings.shares,
            seed=training.seed,
            epoch=epoch,
            shuffle_blocks=settings.shuffle_blocks,
            skip=trainer.step - (epoch - 1) * steps,
            steps=steps,
            backend=settings.reader,
        )
        for lane in trainer.lanes
    ]
    return zip(*(moved(stream, trainer.device) for stream in streams), strict=True)


def _validated(trainer: Trainer, plan: Plan) -> dict[str, float]:
    """Measures of what is trained in this phase, the model or its branch of content, on the validation split."""
    communicator, settings = trainer.communicator, plan.settings
    held_out = ordered_batches(
        plan.validation, settings.batch_size, communicator.rank, communicator.world, backend=settings.reader
    )
    judged = trainer.model.content_branch if trainer.pretraining else trainer.model
    return validate(judged, moved(held_out, trainer.device), communicator)


def _save(trainer: Trainer, plan: Plan, training: Training, progress: Progress, epoch: int) -> None:
    """Rank 0 saves where the training stands: seed, epoch and step, over the pinned version of the samples."""
    progress.peak_gib = max(progress.peak_gib, peak_gib())
    if trainer.communicator.rank != 0:
        return
    position = {"seed": training.seed, "epoch": epoch, "versions": plan.versions}
    saved = position | trainer.progress() | asdict(progress)
    folder, step = Path(training.folder), trainer.step
    folders.save_step(folder, step, trainer.model, trainer.optimiser_state(), saved)
    kept = {step, progress.best * plan.steps_of(training)} if progress.judged else {step}
    folders.drop_steps(folder, keep=kept)


def _finish(
    trainer: Trainer, plan: Plan, training: Training, progress: Progress, items: EntityLookup, users: EntityLookup
) -> None:
    """Saves the best epoch as the training's model."""
    folder, model = Path(training.folder), trainer.model
    model.load_state_dict(folders.load_step(folder, progress.best * plan.steps_of(training))[0])
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
            code=training.code,
            parent=training.parent.config_hash if training.parent else None,
            epoch=progress.best,
            step=trainer.step,
            parameters=sum(parameter.numel() for parameter in model.parameters()),
            samples=trainer.step * plan.settings.batch_size * plan.settings.shares,
            seconds=progress.seconds,
            peak_gib=progress.peak_gib,
            metrics=progress.metrics[progress.best - 1],
            curve=trainer.curve,
            timings=progress.timings,
            gates=gates,
        ),
    )
