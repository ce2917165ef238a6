"""Target attention over a history, and the hard search that shortens a long one (method.md 6.1)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PACKED = 0.5  # below this share of entries that are no padding, gathering those alone is faster


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
    and q is multiplied once a sample, not once an entry. DIN has Dice in the MLP and adds up the values by their
    scores as they are (Zhou et al. 2018, equation 3; FuxiCTR's defaults), so that many entries of one interest count
    more than one; a ReLU and a softmax over the entries are ours.

    Attributes:
        packs: where most entries are padding, computes those alone that are not; the same numbers but for rounding.
    """

    packs = True

    def __init__(
        self,
        query_dim: int,
        entry_dim: int,
        dim: int,
        hidden: int,
        value_dim: int | None = None,
        activation: Literal["relu", "dice"] = "relu",
        softmax: bool = True,
    ) -> None:
        """Takes the widths of queries and entries, of what is computed of them, and of values that are no entries."""
        super().__init__()
        self.softmax = softmax
        self.dice = Dice(hidden) if activation == "dice" else None
        self.query = nn.Linear(query_dim, dim)
        self.key = nn.Linear(entry_dim, dim)
        self.value = nn.Linear(value_dim or entry_dim, dim)
        self.from_query = nn.Linear(dim, hidden)
        self.from_entry = nn.Linear(2 * dim, hidden, bias=False)
        self.score = nn.Linear(hidden, 1, bias=False)
        self.null = nn.Parameter(torch.zeros(dim))

    def forward(
        self, query: Tensor, entries: Tensor, position: Tensor, mask: Tensor, values: Tensor | None = None
    ) -> Tensor:
        """Attends.

        Args:
            query: (B, query_dim).
            entries: (U, entry_dim) features of the distinct ids of the batch.
            position: (B, T) row of `entries` of every history entry.
            mask: (B, T) bool, false for padding.
            values: (U, value_dim) what is averaged, the entries themselves unless told.

        Returns:
            (B, dim).
        """
        query, keys = self.query(query), self.key(entries)
        values = self.value(entries if values is None else values)
        packed = self.packs and int(mask.sum()) < PACKED * mask.numel()
        attended = (self._packed if packed else self._padded)(query, keys, values, position, mask)  # (B, d)
        return torch.where(mask.any(1, keepdim=True), attended, self.null)

    def _padded(self, query: Tensor, keys: Tensor, values: Tensor, position: Tensor, mask: Tensor) -> Tensor:
        """Sums (B, d) of values (U, d), with queries (B, d), keys (U, d), and positions and mask (B, T)."""
        scores = self._scores(query[:, None], self.from_query(query)[:, None], _gather(keys, position), mask)
        if self.softmax:
            weights = torch.softmax(scores.masked_fill(~mask, torch.finfo(scores.dtype).min), 1)  # (B, T)
        else:
            weights = scores.masked_fill(~mask, 0.0)
        return torch.bmm(weights[:, None], _gather(values, position))[:, 0]

    def _packed(self, query: Tensor, keys: Tensor, values: Tensor, position: Tensor, mask: Tensor) -> Tensor:
        """As `_padded`, over the M entries that the mask shows, one after another."""
        sample, column = mask.nonzero(as_tuple=True)  # (M,)
        at, lengths = position[sample, column], mask.sum(1)
        asked = torch.cat([query, self.from_query(query)], 1).index_select(0, sample)  # (M, d + h)
        query, from_query = asked.split([query.shape[1], asked.shape[1] - query.shape[1]], 1)
        weights = self._scores(query, from_query, keys.index_select(0, at), mask[sample, column])  # (M,)
        if self.softmax:
            most = torch.segment_reduce(weights.detach().float(), "max", lengths=lengths, unsafe=True)  # (B,)
            weights = torch.exp(weights - most[sample])
            weights = weights / weights.new_zeros(len(mask)).index_add(0, sample, weights)[sample]
        weighted = weights[:, None] * values.index_select(0, at)
        return weighted.new_zeros(len(mask), values.shape[1]).index_add(0, sample, weighted)

    def _scores(self, query: Tensor, from_query: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
        """Scores (...) of entries by keys (..., d), queries (..., d) and (..., h), and a mask (...)."""
        hidden = from_query + self.from_entry(torch.cat([keys, query * keys], -1))
        hidden = F.relu(hidden) if self.dice is None else self.dice(hidden, mask)
        return self.score(hidden)[..., 0]


class Dice(nn.Module):
    """``p s + (1 - p) alpha s``, p the sigmoid of the standardised s, alpha learned from 0 (Zhou et al. 2018).

    Between PReLU's two slopes it passes over where the values lie. Statistics are of entries that are there (ours;
    FuxiCTR counts padding).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(width, affine=False)
        self.alpha = nn.Parameter(torch.zeros(width))

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        """Values (..., h) and mask (...), false for padding, to (..., h); zeros for padding."""
        if not self.training or mask.sum() < 2:  # of one there is no variance
            running = self.norm.running_mean, self.norm.running_var
            standard = F.batch_norm(values.flatten(0, -2), *running, eps=self.norm.eps).view_as(values)
            return self._activated(values, standard) * mask[..., None]
        shown = values[mask]  # (M, h)
        activated = torch.zeros_like(values)
        activated[mask] = self._activated(shown, self.norm(shown)).to(values.dtype)
        return activated

    def _activated(self, values: Tensor, standard: Tensor) -> Tensor:
        share = torch.sigmoid(standard)
        return values * (share + (1 - share) * self.alpha)


def _gather(rows: Tensor, position: Tensor) -> Tensor:
    """Rows (U, d) at positions (B, T): (B, T, d); index_select has the fastest backward pass on CPU."""
    return rows.index_select(0, position.flatten()).view(*position.shape, -1)


class MeanPooling(nn.Module):
    """The mean of history entries, whatever the target is; a learned vector where there is no entry."""

    def __init__(self, entry_dim: int, dim: int) -> None:
        super().__init__()
        self.value = nn.Linear(entry_dim, dim)
        self.null = nn.Parameter(torch.zeros(dim))

    def forward(self, query: Tensor, entries: Tensor, position: Tensor, mask: Tensor) -> Tensor:
        """Shapes as of `TargetAttention`; the query (B, query_dim) is not read."""
        values = _gather(self.value(entries), position) * mask[..., None]  # (B, T, d)
        mean = values.sum(1) / mask.sum(1, keepdim=True).clamp_min(1)
        return torch.where(mask.any(1, keepdim=True), mean, self.null)
