"""What the ranks of a training are told: configuration, file lists and paths, nothing that is large."""

from __future__ import annotations

from dataclasses import dataclass

from akt_spark.config import ModelConfig, TrainingConfig
from akt_spark.training.order import steps_per_epoch
from akt_spark.training.samples import Block


@dataclass(frozen=True)
class Training:
    """One ranker to train: a variant with a seed.

    Attributes:
        variant: name under ``ranker.variants``.
        seed: of initialisation, order and sampling.
        model: the variant's configuration.
        folder: where its epochs and its model are kept; every rank must see it.
        config_hash: of everything that decides the result; ``folder`` contains it.
    """

    variant: str
    seed: int
    model: ModelConfig
    folder: str
    config_hash: str

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
        """Optimiser steps an epoch."""
        return steps_per_epoch(sum(block.rows for block in self.train), self.settings.batch_size, self.settings.shares)
