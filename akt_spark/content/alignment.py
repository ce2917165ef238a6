"""Contrastive training on pairs of items, in one process (method.md 2.3)."""

from __future__ import annotations

import math
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from akt_spark.config import AlignmentConfig, fingerprint
from akt_spark.content import alignment_checkpoint as checkpoint
from akt_spark.content import gradient_cache
from akt_spark.content.aligner import Aligner, HeadAligner, TunedAligner
from akt_spark.content.alignment_batches import EpochBatches, PairData, halves
from akt_spark.content.alignment_checkpoint import Progress, State
from akt_spark.content.contrastive import KnownPairs, recall_at
from akt_spark.content.hard_negatives import hard_pools
from akt_spark.content.head import ProjectionHead
from akt_spark.errors import DataError

DROPOUT = 0.1
GRADIENT_NORM = 1.0  # clipped, so that no odd batch throws a large encoder off


def train_head(data: PairData, config: AlignmentConfig) -> tuple[ProjectionHead, dict[str, float]]:
    """Trains the head and keeps the epoch that is best on one half of the held-out pairs.

    Returns:
        The head, and recall of raw and aligned vectors on the other half, which no choice was made on.
    """
    torch.manual_seed(config.seed)  # initialisation
    raw = torch.from_numpy(data.vectors)
    head = ProjectionHead(raw.shape[1], config.hidden, config.dim, DROPOUT)
    head.start_from(raw)
    return head, Alignment(HeadAligner(head, raw), data, config, "head").train()


def train_tuned(
    aligner: TunedAligner, data: PairData, config: AlignmentConfig, file: Path | None = None
) -> dict[str, float]:
    """Trains adapters and head from a trained head on (arXiv 2202.10054: a random one would distort the encoder).

    Args:
        aligner: with that head.
        data: pairs over its items.
        config: how.
        file: of checkpoints; a training that was killed goes on from there. It stays, at the end of the training.

    Returns:
        As `train_head`.
    """
    return Alignment(aligner, data, config, "lora", file).train()


class Alignment:
    """One training; see `train`."""

    def __init__(
        self, aligner: Aligner, data: PairData, config: AlignmentConfig, name: str, file: Path | None = None
    ) -> None:
        self.aligner, self.data, self.config, self.name, self.file = aligner, data, config, name, file
        self.tuned = isinstance(aligner, TunedAligner)
        self.epochs = config.lora.epochs if self.tuned else config.epochs
        self.known = KnownPairs(data.train, len(data.vectors))
        self.choose, self.judge = halves(data.held_out, config.seed)
        self.optimizer = torch.optim.AdamW(aligner.parameter_groups(config.learning_rate), weight_decay=0.01)
        self.rates = [group["lr"] for group in self.optimizer.param_groups]
        self.weights: State = {name: p for name, p in aligner.named_parameters() if p.requires_grad}

    def train(self) -> dict[str, float]:
        """Runs until the last epoch, or until ``patience`` epochs brought nothing, and puts the best weights in place.

        Returns:
            Recall of raw and aligned vectors on the pairs that judge; the epoch kept; numbers of pairs.
        """
        config = self.config
        progress = checkpoint.resume(self.file, self.weights, self.optimizer) if self.file else Progress()
        while progress.epoch <= self.epochs and progress.epoch - progress.best_epoch <= config.patience:
            self._epoch(progress)
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.copy_(progress.best[name])
        return {
            "recall_raw": self._recall(torch.from_numpy(self.data.vectors), self.judge),
            "recall_aligned": self._recall(self.aligner.all_vectors(), self.judge),
            "epoch": float(progress.best_epoch),
            "pairs": float(len(self.data.train)),
            "held_out_pairs": float(len(self.data.held_out)),
        }

    def _epoch(self, progress: Progress) -> None:
        """Goes on with the running epoch to its end, and measures it."""
        config, started, first = self.config, time.monotonic(), progress.step
        if config.hard_negatives and progress.epoch > 1 and first == 0:
            vectors, paired = self.aligner.all_vectors(), np.unique(self.data.train)
            progress.pools = hard_pools(vectors, paired, self.data.category, self.known)
        batches = EpochBatches(self.data, self.known, progress.pools, config, progress.epoch)
        losses = []
        for step in range(first, len(batches)):
            losses.append(self._step(batches, progress.epoch, step))
            progress.step = step + 1
            if self.file and progress.step % config.lora.checkpoint_steps == 0:
                checkpoint.save(self.file, progress, self.weights, self.optimizer)
        seconds = time.monotonic() - started
        reached = self._recall(self.aligner.all_vectors(), self.choose)
        print(
            f"alignment {self.name}, epoch {progress.epoch}: loss {np.mean(losses or [math.nan]):.3f}, "
            f"{len(losses) * batches.size / seconds:,.0f} pairs/s, recall@{config.recall_at} {reached:.3f}",
            flush=True,
        )
        if reached > progress.best_recall:
            progress.best_epoch, progress.best_recall = progress.epoch, reached
            progress.best = {name: weight.detach().clone() for name, weight in self.weights.items()}
        progress.epoch, progress.step = progress.epoch + 1, 0
        if self.file:
            checkpoint.save(self.file, progress, self.weights, self.optimizer)

    def _step(self, batches: EpochBatches, epoch: int, step: int) -> float:
        self.aligner.train()
        torch.manual_seed(int(fingerprint(self.config.seed, epoch, step), 16) % 2**63)  # dropout
        batch = batches[step]
        self._set_rates((epoch - 1) * len(batches) + step, self.epochs * len(batches))
        self.optimizer.zero_grad()
        loss = gradient_cache.backward(
            lambda places: self.aligner(batch.items[places]), self.aligner.parts(batch.items), batch.loss
        )
        if not math.isfinite(loss):
            raise DataError(
                f"alignment {self.name} diverged in epoch {epoch}: its loss is {loss}; lower alignment.learning_rate "
                f"({self.config.learning_rate:g}) or alignment.lora.learning_rate ({self.config.lora.learning_rate:g})"
            )
        if self.tuned:
            torch.nn.utils.clip_grad_norm_(self.weights.values(), GRADIENT_NORM)
        self.optimizer.step()
        return loss

    def _set_rates(self, step: int, steps: int) -> None:
        """The head alone learns at a constant rate; adapters by warm-up and cosine."""
        if self.tuned:
            factor = warmup_cosine(step, steps, self.config.lora.warmup)
            for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
                group["lr"] = rate * factor

    def _recall(self, vectors: Tensor, pairs: np.ndarray) -> float:
        return recall_at(self.config.recall_at, vectors.cpu(), pairs, self.known)


def warmup_cosine(step: int, steps: int, warmup: float) -> float:
    """The share of the learning rate: rising over the first ``warmup`` of all steps, then half a cosine down to 0."""
    rising = math.ceil(warmup * steps)
    if step < rising:
        return (step + 1) / rising
    return (1 + math.cos(math.pi * (step - rising) / max(steps - rising, 1))) / 2
