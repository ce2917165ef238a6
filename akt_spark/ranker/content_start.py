"""Tables that start from content instead of noise (ours): what looks and reads alike starts alike."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PROJECTION_SEED = 20_260_522  # one projection for every seed and rank; no other random number is drawn because of it


def projected(vectors: Tensor, dim: int, std: float, draw: int) -> Tensor:
    """Content vectors (N, D) in a random orthogonal projection, with entries of this standard deviation: (N, dim).

    Vectors are taken at length 1 and without their mean, which all have in common. Zeros where there is no vector.

    Args:
        vectors: zeros where there is none.
        dim: width of the table.
        std: that of the noise that it replaces.
        draw: number of the projection; two tables of one id show different sides of its vector.
    """
    known = vectors.any(1)
    found = vectors.new_zeros(len(vectors), dim)
    if known.any():
        unit = F.normalize(vectors[known], dim=1)
        generator = torch.Generator().manual_seed(PROJECTION_SEED + draw)
        projection = nn.init.orthogonal_(torch.empty(vectors.shape[1], dim), generator=generator)
        rows = (unit - unit.mean(0)) @ projection
        found[known] = rows * (std / rows.std(correction=0).clamp_min(1e-12))
    return found


def level_means(values: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of one table of all levels, each the mean of what the levels before it leave of its members' values.

    So the rows of an id's prefixes add up to the mean of those that share all of its codes.

    Args:
        values: (N, d), zeros for ids without a value, which are no members.
        rows: (N, L) row of every level of every id (`EntityLookup.prefixes` or `level_codes`), 0 for none.

    Returns:
        (P, d), and (P,) bool which rows have a member.
    """
    means = values.new_zeros(int(rows.max()) + 1, values.shape[1])
    found = torch.zeros(len(means), dtype=torch.bool)
    known, rest = values.any(1), values
    for row in rows.unbind(1):
        members = known & (row > 0)
        count = torch.bincount(row[members], minlength=len(means))[:, None]
        of_level = torch.zeros_like(means).index_add_(0, row[members], rest[members]) / count.clamp_min(1)
        rest = rest - of_level[row]
        means += of_level
        found |= count[:, 0] > 0
    return means, found
