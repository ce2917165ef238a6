"""Contrastive learning on pairs of items: known pairs, the loss, and recall (method.md 2.3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


class KnownPairs:
    """Which items are known to go together, in either direction; compressed rows over N items."""

    def __init__(self, pairs: np.ndarray, items: int) -> None:
        """Reads (P, 2) item positions."""
        both = np.unique(np.concatenate([pairs, pairs[:, ::-1]]), axis=0)
        self.partners = both[:, 1]
        self.starts = np.searchsorted(both[:, 0], np.arange(items + 1))

    def of(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """All pairs of the items rows[i]: i (P,) and the other item (P,)."""
        first, last = self.starts[rows], self.starts[rows + 1]
        counts = last - first
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        return np.repeat(np.arange(len(rows)), counts), self.partners[np.repeat(first, counts) + within]

    def mask(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """(R, C) bool: whether rows[i] and columns[j] are a known pair."""
        row, partner = self.of(rows)
        unique, place = np.unique(columns, return_inverse=True)
        found = np.minimum(np.searchsorted(unique, partner), len(unique) - 1)
        hit = unique[found] == partner
        known = np.zeros((len(rows), len(unique)), dtype=bool)
        known[row[hit], found[hit]] = True
        return known[:, place]


@dataclass(frozen=True)
class HardNegatives:
    """Candidates of single anchors.

    Attributes:
        scores: (B, K) cosines.
        log_q: (B, K) as of `info_nce`; a pool of which a share was drawn for each anchor: log(share / B).
        absent: (B, K) bool, places without a candidate.
    """

    scores: Tensor
    log_q: Tensor
    absent: Tensor


def info_nce(
    scores: Tensor,
    log_q: Tensor,
    known: Tensor,
    temperature: float,
    margin: float,
    hard: HardNegatives | None = None,
) -> Tensor:
    """The loss of anchors against in-batch candidates, and against hard negatives of their own::

        l(a) = -log exp(s_ab / tau - log q_b) / sum_j m_aj exp(s_aj / tau - log q_j)

    m_aj is 0 where j is known to go with a, or where s_aj > s_ab + margin: likely false negatives. B q_j is how often j
    is expected among the candidates, so that the sum estimates that over all items, whichever way j was drawn.

    Args:
        scores: (B, B) cosines; the positive of row i stands in column i.
        log_q: (B,) log frequency with which a column's item is drawn: without it popular items are pushed away.
        known: (B, B) bool.
        temperature: tau.
        margin: of the false-negative rule.
        hard: further candidates.
    """
    log_q, known = log_q.expand_as(scores), known.clone()
    positive = scores.diagonal()[:, None]
    if hard is not None:
        scores = torch.cat([scores, hard.scores], dim=1)
        log_q = torch.cat([log_q, hard.log_q.expand_as(hard.scores)], dim=1)
        known = torch.cat([known, hard.absent], dim=1)
    false_negative = known | (scores > positive + margin)
    false_negative.fill_diagonal_(False)
    logits = (scores / temperature - log_q).masked_fill(false_negative, float("-inf"))
    return F.cross_entropy(logits, torch.arange(len(scores), device=scores.device))


def recall_at(k: int, vectors: Tensor, pairs: np.ndarray, known: KnownPairs, rows_at_once: int = 1024) -> float:
    """Share of pairs whose positive is among the k nearest of its anchor, in all of ``vectors``.

    The anchor itself and its partners of training are not counted as competitors. Ties count against the positive, and
    so does what is not a number: vectors that have collapsed or burst find nothing.

    Args:
        k: size of the neighbourhood.
        vectors: (N, d), L2-normalised.
        pairs: (P, 2) positions of anchor and positive.
        known: the training pairs.
        rows_at_once: anchors a block, to bound memory.
    """
    hits = 0
    for start in range(0, len(pairs), rows_at_once):
        anchor, positive = pairs[start : start + rows_at_once].T
        scores, rows = vectors[anchor] @ vectors.T, np.arange(len(anchor))  # (R, N)
        of_positive = scores[rows, positive]
        for row, item in (known.of(anchor), (rows, anchor), (rows, positive)):
            scores[row, item] = -torch.inf  # does not compete
        kth = scores.topk(min(k, len(vectors))).values[:, -1]  # what is not a number comes first
        hits += int((kth < of_positive).sum())
    return hits / len(pairs)
