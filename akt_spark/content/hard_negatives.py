"""Hard negatives: items of the anchor's leaf category that are near it, and do not go with it (method.md 2.3)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from akt_spark.content.contrastive import KnownPairs

RANKS = (30, 100)  # nearer ones are often positives that nobody happened to click together


def hard_pools(
    vectors: Tensor, anchors: np.ndarray, category: np.ndarray, known: KnownPairs, rows_at_once: int = 1024
) -> np.ndarray:
    """The items that are hard negatives of each anchor.

    Ranks count from 1, the nearest other item, over all items. Held-out pairs are not known to training, so they are
    no reason to leave an item out.

    Args:
        vectors: (N, dim), L2-normalised, as they are now.
        anchors: positions of items.
        category: (N,) leaf category, -1 where there is none: such items have no hard negatives and are none.
        known: the training pairs.
        rows_at_once: anchors a block, to bound memory.

    Returns:
        (N, M) int32 positions, -1 behind the last; rows of items that are no anchors are empty.
    """
    first, last = RANKS
    pools = np.full((len(vectors), last - first + 1), -1, dtype=np.int32)
    for start in range(0, len(anchors), rows_at_once):
        rows = anchors[start : start + rows_at_once]
        scores = vectors[rows] @ vectors.T  # (R, N)
        scores[torch.arange(len(rows)), rows] = -torch.inf  # last, whatever equals it
        ranked = scores.topk(min(last, len(vectors) - 1), dim=1).indices[:, first - 1 :].cpu().numpy()
        if not ranked.shape[1]:
            break  # a catalogue of fewer items
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
