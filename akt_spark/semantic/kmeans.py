"""k-means for codebook initialisation: k-means++ seeding and Lloyd iterations, deterministic from a generator."""

from __future__ import annotations

import torch
from torch import Tensor

LLOYD_ITERATIONS = 25


def kmeans(x: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """Centres (k, d) of rows x (N, d), N >= k. A centre that loses all rows stays where it is."""
    centres = _plus_plus(x, k, generator)
    for _ in range(LLOYD_ITERATIONS):
        nearest = torch.cdist(x, centres).argmin(dim=1)
        sums = torch.zeros_like(centres).index_add_(0, nearest, x)
        sizes = torch.bincount(nearest, minlength=k).unsqueeze(1)
        centres = torch.where(sizes > 0, sums / sizes.clamp(min=1), centres)
    return centres


def _plus_plus(x: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """Arthur and Vassilvitskii 2007: the next centre is a row drawn in proportion to its squared distance."""
    chosen = [int(torch.randint(len(x), (), generator=generator))]
    distance = torch.full((len(x),), torch.inf)
    while len(chosen) < k:
        distance = torch.minimum(distance, (x - x[chosen[-1]]).square().sum(dim=1))
        # rows that all coincide with a centre leave nothing to draw from: then any row is as good
        weights = distance if distance.sum() > 0 else torch.ones_like(distance)
        chosen.append(int(torch.searchsorted(weights.cumsum(0), torch.rand((), generator=generator) * weights.sum())))
    return x[torch.tensor(chosen).clamp(max=len(x) - 1)].clone()
