"""What the ranks of a training are told: configuration, file lists and paths, nothing that is large."""

from __future__ import annotations

from dataclasses import dataclass

from akt_spark.config import ModelConfig, TrainingConfig
from akt_spark.training.order import next_blocks, steps_per_epoch
from akt_spark.training.samples import Block


@dataclass(frozen=True)
class Parent:
    """The ranker of an earlier day that a training starts from.

    Attributes:
        run_id: that trained it.
        path: its model folder.
        config_hash: its identity.
        item_files: the look-ups that it was trained with.
        user_files: likewise.
    """

    run_id: str
    path: str
    config_hash: str
    item_files: tuple[str, ...]
    user_files: tuple[str, ...]


@dataclass(frozen=True)
class Training:
    """One ranker to train: a variant with a seed.

    Attributes:
        variant: name under ``ranker.variants``.
        seed: of initialisation, order and sampling.
        model: the variant's configuration.
        folder: where its epochs and its model are kept; every rank must see it.
        config_hash: of everything that decides the result; ``folder`` contains it.
        code: hash of the code of rankers.
        parent: what it starts from; None: from the beginning.
    """

    variant: str
    seed: int
    model: ModelConfig
    folder: str
    config_hash: str
    code: str
    parent: Parent | None = None

    def epochs(self, settings: TrainingConfig) -> int:
        """Passes over the samples, at most, with those before that train the branch of content."""
        return self.model.pretrain_epochs + (self.model.epochs or settings.epochs)

    @property
    def name(self) -> str:
        """What progress lines call it."""
        return f"{self.variant} seed {self.seed}"


@dataclass(frozen=True)
class Plan:
    """All trainings of a night, over the same pinned samples and look-ups; ``log`` takes the progress lines."""

    trainings: tuple[Training, ...]
    settings: TrainingConfig
    train: tuple[Block, ...]
    validation: tuple[Block, ...]
    item_files: tuple[str, ...]
    user_files: tuple[str, ...]
    versions: dict[str, int]
    log: str

    @property
    def steps(self) -> int:
        """Optimiser steps of an epoch over all samples."""
        return steps_per_epoch(sum(block.rows for block in self.train), self.settings.batch_size, self.settings.shares)

    def steps_of(self, training: Training) -> int:
        """Optimiser steps of an epoch of a training; with a parent it is over a share of the samples."""
        return self.steps if training.parent is None else max(1, int(self.steps * self.settings.warm_start_share))

    def blocks_of(self, training: Training, epoch: int) -> tuple[Block, ...]:
        """The samples of an epoch of a training; with a parent just enough blocks, every epoch others."""
        if training.parent is None:
            return self.train
        rows = self.steps_of(training) * self.settings.batch_size * self.settings.shares
        return next_blocks(self.train, rows, training.seed, epoch)
