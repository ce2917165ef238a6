"""Target attention over a history, and the hard search that shortens a long one (method.md 6.1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def hard_search(history: Tensor, matches: Tensor, keep: int) -> Tensor:
    """The newest matching entries of every history, packed to the left and padded with 0.

    Works on integers alone, so embeddings are gathered for the survivors only [SIM].

    Args:
        history: (B, L) int64, newest first, 0 for padding.
        matches: (B, L) bool.
        keep: entries kept at most.

    Returns:
        (B, W) int64, W the longest result in this batch, from 1 to ``keep``.
    """
    rank = matches.cumsum(1)  # (B, L), 1 for the newest match
    row, column = (matches & (rank <= keep)).nonzero(as_tuple=True)
    place = rank[row, column] - 1
    found = history.new_zeros(len(history), int(place.max()) + 1 if len(place) else 1)
    found[row, place] = history[row, column]
    return found


class TargetAttention(nn.Module):
    """DIN attention of a target over history entries; a learned vector where there is no entry.

    An MLP scores [q, k, q - k, q * k]. Its first layer is linear, so the q - k part is folded into those of q and k,
    and q is multiplied once a sample, not once an entry.
    """

    def __init__(self, query_dim: int, entry_dim: int, dim: int, hidden: int) -> None:
        super().__init__()
        self.query = nn.Linear(query_dim, dim)
        self.key = nn.Linear(entry_dim, dim)
        self.value = nn.Linear(entry_dim, dim)
        self.from_query = nn.Linear(dim, hidden)
        self.from_entry = nn.Linear(2 * dim, hidden, bias=False)
        self.score = nn.Linear(hidden, 1, bias=False)
        self.null = nn.Parameter(torch.zeros(dim))

    def forward(self, query: Tensor, entries: Tensor, position: Tensor, mask: Tensor) -> Tensor:
        """Attends.

        Args:
            query: (B, query_dim).
            entries: (U, entry_dim) features of the distinct ids of the batch.
            position: (B, T) row of `entries` of every history entry.
            mask: (B, T) bool, false for padding.

        Returns:
            (B, dim).
        """
        query = self.query(query)  # (B, d)
        keys, values = (_gather(part(entries), position) for part in (self.key, self.value))  # (B, T, d)
        pairs = torch.cat([keys, query[:, None] * keys], -1)  # (B, T, 2d)
        hidden = F.relu(self.from_query(query)[:, None] + self.from_entry(pairs))  # (B, T, h)
        scores = self.score(hidden)[..., 0].masked_fill(~mask, torch.finfo(hidden.dtype).min)
        weights = torch.softmax(scores, 1)  # (B, T)
        attended = torch.bmm(weights[:, None], values)[:, 0]  # (B, d)
        return torch.where(mask.any(1, keepdim=True), attended, self.null)


def _gather(rows: Tensor, position: Tensor) -> Tensor:
    """Rows (U, d) at positions (B, T): (B, T, d); index_select has the fastest backward pass on CPU."""
    return rows.index_select(0, position.flatten()).view(*position.shape, -1)
