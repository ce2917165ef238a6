"""Hard negatives: items of the anchor's leaf category that are near it, and do not go with it (method.md 2.3).

Only items that have pairs of their own are hard negatives (ours). Items that nobody has clicked would otherwise be
negatives and never positives: the head would learn to push the cold away from everything warm, and clusters would hold
either heads or tails.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from akt_spark.content.contrastive import KnownPairs

RANKS = (30, 100)  # nearer ones are often positives that nobody happened to click together


def hard_pools(
    vectors: Tensor, paired: np.ndarray, category: np.ndarray, known: KnownPairs, rows_at_once: int = 1024
) -> np.ndarray:
    """The items that are hard negatives of each item that has pairs.

    Ranks count from 1, the nearest other item, over all items that have pairs. Held-out pairs are not known to
    training, so they are no reason to leave an item out.

    Args:
        vectors: (N, dim), L2-normalised, as they are now.
        paired: positions of the items that have pairs, ascending.
        category: (N,) leaf category, -1 where there is none: such items have no hard negatives and are none.
        known: the training pairs.
        rows_at_once: items a block, to bound memory.

    Returns:
        (N, M) int32 positions, -1 behind the last; rows of items without pairs are empty.
    """
    first, last = RANKS
    pools = np.full((len(vectors), last - first + 1), -1, dtype=np.int32)
    candidates = vectors[paired]  # (P, dim)
    for start in range(0, len(paired), rows_at_once):
        rows = paired[start : start + rows_at_once]
        scores = vectors[rows] @ candidates.T  # (R, P)
        scores[torch.arange(len(rows)), torch.arange(start, start + len(rows))] = -torch.inf  # last, whatever equals it
        ranked = paired[scores.topk(min(last, len(paired) - 1), dim=1).indices[:, first - 1 :].cpu().numpy()]
        if not ranked.shape[1]:
            break  # fewer items
        fits = (category[ranked] == category[rows][:, None]) & (category[ranked] >= 0)
        fits &= ~np.stack([known.mask(rows[i : i + 1], ranked[i])[0] for i in range(len(rows))])
        found = np.where(fits, ranked, -1)
        pools[rows, : found.shape[1]] = np.take_along_axis(found, np.argsort(~fits, axis=1, kind="stable"), axis=1)
    return pools


def draw(pools: np.ndarray, anchors: np.ndarray, count: int, random: np.random.Generator) -> tuple[np.ndarray, Tensor]:
    """At most ``count`` items of each anchor's pool, without replacement.

    Returns:
        (B, count) positions, -1 where the pool has fewer; and (B, 1) the log of the share of the pool that was drawn.
    """
    pool = pools[anchors]  # (B, M)
    size = (pool >= 0).sum(1)
    keys = np.where(pool >= 0, random.random(pool.shape), 2.0)
    drawn = np.take_along_axis(pool, np.argsort(keys, axis=1)[:, :count], axis=1)
    share = np.minimum(count, size) / np.maximum(size, 1)
    return drawn, torch.from_numpy(np.log(np.maximum(share, 1e-9))).float()[:, None]
