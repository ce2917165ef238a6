"""Training of the projection head on co-click pairs, in one process (method.md 2.3)."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from akt_spark.config import AlignmentConfig
from akt_spark.content.contrastive import KnownPairs, info_nce, recall_at
from akt_spark.content.head import ProjectionHead

DROPOUT = 0.1
MEASURED_PAIRS = 10_000  # a recall over more is no more telling


@dataclass(frozen=True)
class PairData:
    """Items and pairs on the driver.

    Attributes:
        vectors: (N, raw_dim) float32, L2-normalised raw vectors.
        train: (P, 2) positions of anchor and positive.
        held_out: (Q, 2) likewise, never trained on.
    """

    vectors: np.ndarray
    train: np.ndarray
    held_out: np.ndarray


def train_head(data: PairData, config: AlignmentConfig) -> tuple[ProjectionHead, dict[str, float]]:
    """Trains the head and keeps the epoch that is best on one half of the held-out pairs.

    Returns:
        The head, and recall of raw and aligned vectors on the other half, which no choice was made on.
    """
    generator = torch.Generator().manual_seed(config.seed)
    torch.manual_seed(config.seed)  # initialisation and dropout
    raw, known = torch.from_numpy(data.vectors), KnownPairs(data.train, len(data.vectors))
    choose, judge = _halves(data.held_out, config.seed)

    def recall(vectors: Tensor, pairs: np.ndarray) -> float:
        return recall_at(config.recall_at, vectors, pairs, known)

    head = ProjectionHead(raw.shape[1], config.hidden, config.dim, DROPOUT)
    head.start_from(raw)
    optimizer = torch.optim.AdamW(head.parameters(), lr=config.learning_rate, weight_decay=0.01)
    best, best_recall, best_epoch = copy.deepcopy(head.state_dict()), -1.0, 0
    for epoch in range(1, config.epochs + 1):
        pairs = _epoch_pairs(data.train, config, generator)
        loss = _train_epoch(head, optimizer, raw, pairs, known, config)
        reached = recall(torch.from_numpy(head.project(data.vectors)), choose)
        print(f"alignment epoch {epoch}: loss {loss:.3f}, recall@{config.recall_at} {reached:.3f}", flush=True)
        if reached > best_recall:
            best, best_recall, best_epoch = copy.deepcopy(head.state_dict()), reached, epoch
    head.load_state_dict(best)
    aligned = torch.from_numpy(head.project(data.vectors))
    return head, {
        "recall_raw": recall(raw, judge),
        "recall_aligned": recall(aligned, judge),
        "epoch": float(best_epoch),
        "pairs": float(len(data.train)),
        "held_out_pairs": float(len(data.held_out)),
    }


def _halves(held_out: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two disjoint random parts; the directions of one pair stay together."""
    unordered, pair = np.unique(np.sort(held_out, axis=1), axis=0, return_inverse=True)
    first = np.random.default_rng(seed).permutation(len(unordered))[pair.ravel()] % 2 == 0
    return held_out[first][:MEASURED_PAIRS], held_out[~first][:MEASURED_PAIRS]


def _epoch_pairs(train: np.ndarray, config: AlignmentConfig, generator: torch.Generator) -> np.ndarray:
    """The pairs of one epoch in random order, each item the positive of at most ``pairs_per_positive``."""
    pairs = train[torch.randperm(len(train), generator=generator).numpy()]
    order = np.argsort(pairs[:, 1], kind="stable")
    positive = pairs[order, 1]
    place = np.arange(len(order)) - np.searchsorted(positive, positive)
    return pairs[np.sort(order[place < config.pairs_per_positive])]


def _train_epoch(
    head: ProjectionHead,
    optimizer: torch.optim.Optimizer,
    raw: Tensor,
    pairs: np.ndarray,
    known: KnownPairs,
    config: AlignmentConfig,
) -> float:
    """One pass; returns the mean loss. A short last batch is dropped unless it is the only one."""
    head.train()
    log_q = torch.from_numpy(np.log((np.bincount(pairs.ravel(), minlength=len(raw)) + 1e-9) / pairs.size)).float()
    size = min(config.batch_size, len(pairs))
    losses = []
    for start in range(0, len(pairs) - size + 1, size):
        a, b = pairs[start : start + size].T
        scores = head(raw[a]) @ head(raw[b]).T
        forward, backward = (
            torch.from_numpy(known.mask(x, y) | (y[:, None] == y[None, :]) | (x[:, None] == y[None, :]))
            for x, y in ((a, b), (b, a))
        )
        loss = (
            info_nce(scores, log_q[b], forward, config.temperature, config.false_negative_margin)
            + info_nce(scores.T, log_q[a], backward, config.temperature, config.false_negative_margin)
        ) / 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return float(np.mean(losses))
