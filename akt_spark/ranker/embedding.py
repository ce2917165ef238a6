"""Cluster-guided adaptive embedding of one entity (method.md 5.1, 5.2, 5.6)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from akt_spark.config import ModelConfig
from akt_spark.ranker.gate import ActivityGate, ActivityScaler
from akt_spark.ranker.lookup import EntityLookup

INITIAL_STD = 0.05  # of ID tables


class ClusterGuidedEmbedding(nn.Module):
    """``e = r c + (1 - r) d``: an individual row d, a cluster part c and a gate r that reads activity.

    ``cluster_mode`` says what c is: ``per_id`` a second row of the id (the paper's reading), ``prefix`` the sum of the
    rows of the id's code prefixes, ``hybrid`` that sum plus a residual of the id that starts at zero, ``none`` nothing
    (e = d). An id without a code has no prefix to lean on: in ``prefix`` and ``hybrid`` its gate is 0, so e = d.
    """

    def __init__(self, config: ModelConfig, lookup: EntityLookup, prefixes: Tensor) -> None:
        super().__init__()
        self.mode, rows = config.cluster_mode, len(lookup)
        self.scaler = ActivityScaler(lookup.activity, lookup.impressions)
        self.individual = _table(rows, config.dim, INITIAL_STD)
        self.prefix_rows = self.own_rows = self.gate = self.scale = None
        if self.mode == "none":
            return
        self.gate = ActivityGate(lookup.activity.shape[1], config.gate_floor)
        if self.mode in ("prefix", "hybrid"):
            self.prefix_rows = nn.EmbeddingBag(
                int(prefixes.max()) + 1, config.dim, mode="sum", sparse=True, padding_idx=0
            )
            _reset(self.prefix_rows, INITIAL_STD * prefixes.shape[1] ** -0.5)  # the sum has the scale of d
        if self.mode in ("per_id", "hybrid"):
            self.own_rows = _table(rows, config.dim, 0.0 if self.mode == "hybrid" else INITIAL_STD)
        if self.mode == "per_id" and config.normalise_cluster:
            self.scale = nn.Parameter(torch.tensor(0.5))
        self.register_buffer("prefixes", prefixes, persistent=False)  # (N, L)
        self.register_buffer("activity", lookup.activity, persistent=False)  # (N, F)

    def cluster(self, ids: Tensor, own_rows_only: bool = False) -> Tensor:
        """Cluster parts c of ids (B,): (B, d).

        ``own_rows_only`` stops the gradient into what ids share (prefix rows, scale): as a student of the transfer an
        id must not move its teachers (method.md 5.1).
        """
        parts = []
        if self.prefix_rows is not None:
            shared = self.prefix_rows(self.prefixes[ids])  # (B, L) -> (B, d)
            parts.append(shared.detach() if own_rows_only else shared)
        if self.own_rows is not None:
            own = self.own_rows(ids)  # (B, d)
            if self.scale is not None:
                scale = self.scale.detach() if own_rows_only else self.scale
                own = scale * F.normalize(own, dim=-1, eps=1e-8)
            parts.append(own)
        return sum(parts[1:], parts[0])

    def weight(self, ids: Tensor, activity: Tensor, frozen: bool = False) -> Tensor:
        """Gate r of ids (B,) with raw activity (B, F): (B, 1)."""
        weight = self.gate(self.scaler(activity), frozen)
        if self.prefix_rows is None:
            return weight
        return torch.where(self.prefixes[ids, :1] > 0, weight, torch.zeros_like(weight))

    def mix(self, ids: Tensor, individual: Tensor, activity: Tensor, frozen: bool = False) -> Tensor:
        """Fused embeddings e (B, d) of ids (B,) whose individual rows (B, d) are already gathered."""
        if self.mode == "none":
            return individual
        return torch.lerp(individual, self.cluster(ids), self.weight(ids, activity, frozen))

    @torch.no_grad()
    def snapshot(self, ids: Tensor) -> Tensor:
        """Fused embeddings e (B, d) of ids (B,) by their activity in the look-up, without gradient."""
        if self.mode == "none":
            return self.individual(ids)
        return self.mix(ids, self.individual(ids), self.activity[ids], frozen=True)

    def orthogonality(self, ids: Tensor) -> Tensor:
        """Mean of cos(c, d)^2 over the distinct ids (B,) (paper, equation 5): a scalar in [0, 1]."""
        distinct = torch.unique(ids)
        return squared_cosine(self.cluster(distinct), self.individual(distinct)).mean()


def squared_cosine(left: Tensor, right: Tensor) -> Tensor:
    """cos^2 of rows, (B, d) and (B, d) to (B,); 0 with a finite gradient where a row is zero."""
    return (F.normalize(left, dim=-1, eps=1e-8) * F.normalize(right, dim=-1, eps=1e-8)).sum(-1) ** 2


class AttributeEmbedding(nn.Module):
    """Sum of one embedding a static attribute; a linear map of their concatenation would be folded into it anyway."""

    def __init__(self, attributes: Tensor, dim: int) -> None:
        """Takes the hashed attributes (N, A) of all ids; an entity without attributes shares one row."""
        super().__init__()
        attributes = attributes if attributes.shape[1] else F.pad(attributes, (0, 1))
        sizes = attributes.amax(0) + 1  # (A,) the same hash means another thing in another column
        self.register_buffer("rows", attributes + sizes.cumsum(0) - sizes, persistent=False)  # (N, A)
        self.table = nn.EmbeddingBag(int(sizes.sum()), dim, mode="sum", sparse=True)
        nn.init.normal_(self.table.weight, std=INITIAL_STD)

    def forward(self, ids: Tensor) -> Tensor:
        """Ids (B,) to (B, d)."""
        return self.table(self.rows[ids])


def _table(rows: int, dim: int, std: float) -> nn.Embedding:
    table = nn.Embedding(rows, dim, padding_idx=0, sparse=True)
    _reset(table, std)
    return table


@torch.no_grad()
def _reset(table: nn.Embedding | nn.EmbeddingBag, std: float) -> None:
    table.weight.normal_(std=std) if std else table.weight.zero_()
    table.weight[0] = 0.0
