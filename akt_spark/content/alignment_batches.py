"""Which pairs a step of alignment sees, and their loss; all of it follows from seed, epoch and step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from akt_spark.config import AlignmentConfig
from akt_spark.content.contrastive import HardNegatives, KnownPairs, info_nce
from akt_spark.content.hard_negatives import draw

MEASURED_PAIRS = 10_000  # a recall over more is no more telling


@dataclass(frozen=True)
class PairData:
    """Items and pairs in one process.

    Attributes:
        vectors: (N, raw_dim) float32, L2-normalised raw vectors.
        train: (P, 2) positions of anchor and positive.
        held_out: (Q, 2) likewise, never trained on.
        category: (N,) int64 leaf category, -1 where there is none.
    """

    vectors: np.ndarray
    train: np.ndarray
    held_out: np.ndarray
    category: np.ndarray


def halves(held_out: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two disjoint random parts: one to choose an epoch by, one to judge; the directions of one pair stay together.

    Each is a random sample where there are more than MEASURED_PAIRS: held-out pairs come sorted by item.
    """
    unordered, pair = np.unique(np.sort(held_out, axis=1), axis=0, return_inverse=True)
    place = np.random.default_rng(seed).permutation(len(unordered))[pair.ravel()]
    order = np.argsort(place, kind="stable")
    chooses = place[order] % 2 == 0
    return held_out[order[chooses]][:MEASURED_PAIRS], held_out[order[~chooses]][:MEASURED_PAIRS]


class EpochBatches:
    """The batches of one epoch: pairs in random order, each item the positive of at most ``pairs_per_positive``.

    A short last batch is dropped unless it is the only one.
    """

    def __init__(
        self, data: PairData, known: KnownPairs, pools: np.ndarray | None, config: AlignmentConfig, epoch: int
    ) -> None:
        """Args: pools: of `hard_pools`; None: no hard negatives."""
        self.known, self.pools, self.config, self.epoch = known, pools, config, epoch
        pairs = np.random.default_rng((config.seed, epoch)).permutation(data.train)
        order = np.argsort(pairs[:, 1], kind="stable")
        positive = pairs[order, 1]
        place = np.arange(len(order)) - np.searchsorted(positive, positive)
        self.pairs = pairs[np.sort(order[place < config.pairs_per_positive])]
        share = np.bincount(self.pairs.ravel(), minlength=len(data.vectors)) / self.pairs.size
        self.log_q = torch.from_numpy(np.log(share + 1e-12)).float()
        self.size = min(config.batch_size, len(self.pairs))

    def __len__(self) -> int:
        return len(self.pairs) // self.size

    def __getitem__(self, step: int) -> PairBatch:
        if step >= len(self):
            raise IndexError(step)
        pairs = self.pairs[step * self.size : (step + 1) * self.size]
        if self.pools is None:
            return PairBatch(pairs, None, None, self)
        random = np.random.default_rng((self.config.seed, self.epoch, step))
        return PairBatch(pairs, *draw(self.pools, pairs[:, 0], self.config.hard_negatives, random), self)


class PairBatch:
    """B pairs, with K hard negatives of every anchor."""

    def __init__(self, pairs: np.ndarray, hard: np.ndarray | None, log_share: Tensor | None, of: EpochBatches) -> None:
        """Args: hard: (B, K) positions, -1 for none; log_share: (B, 1) of the pool that they are drawn from."""
        self.of, self.pairs, self.hard, self.log_share = of, pairs, hard, log_share
        others = [] if hard is None else [hard[hard >= 0]]
        self.items = np.unique(np.concatenate([pairs.ravel(), *others]))  # (U,) each embedded once

    def loss(self, vectors: Tensor) -> Tensor:
        """The symmetric contrastive loss, of vectors (U, dim) of ``items``; hard negatives are the anchors'."""
        a, b = self.pairs.T
        of_a, of_b = (vectors[self._places(items)] for items in (a, b))
        scores = of_a @ of_b.T
        return (
            self._one_way(scores, a, b, self._hard(of_a, vectors, scores)) + self._one_way(scores.T, b, a, None)
        ) / 2

    def _one_way(self, scores: Tensor, rows: np.ndarray, columns: np.ndarray, hard: HardNegatives | None) -> Tensor:
        config = self.of.config
        same = (columns[:, None] == columns[None, :]) | (rows[:, None] == columns[None, :])
        known = torch.from_numpy(self.of.known.mask(rows, columns) | same).to(scores.device)
        log_q = self.of.log_q[columns].to(scores.device)
        return info_nce(scores, log_q, known, config.temperature, config.false_negative_margin, hard)

    def _hard(self, anchors: Tensor, vectors: Tensor, scores: Tensor) -> HardNegatives | None:
        if self.hard is None:
            return None
        absent = self.hard < 0
        candidates = vectors[self._places(np.where(absent, self.pairs[:, :1], self.hard))]  # (B, K, dim)
        return HardNegatives(
            scores=torch.einsum("bd,bkd->bk", anchors, candidates),
            log_q=self.log_share.to(scores) - np.log(len(self.pairs)),
            absent=torch.from_numpy(absent).to(scores.device),
        )

    def _places(self, items: np.ndarray) -> Tensor:
        return torch.from_numpy(np.searchsorted(self.items, items))
