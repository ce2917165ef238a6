"""Cluster-guided adaptive embedding of one entity (method.md 5.1, 5.2, 5.6)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from akt_spark.config import ModelConfig
from akt_spark.ranker.gate import ActivityScaler, new_gate
from akt_spark.ranker.lookup import EntityLookup

INITIAL_STD = 0.05  # of ID tables


class IdTable(nn.Embedding):
    """One row for every admitted id, with sparse gradients; all other ids share one more row, or have zeros.

    Most ids of a catalogue are rarely or never shown: without rows of their own the table fits into memory, and their
    embedding is that of their cluster.
    """

    def __init__(self, admitted: Tensor, dim: int, std: float, shared: bool = False) -> None:
        """Takes who is admitted (N,) bool, and whether the others (but not id 0, the padding) share a row."""
        own = admitted.cumsum(0)
        rest = int(own[-1]) + 1 if shared and not admitted[1:].all() else 0
        row = torch.where(admitted, own, rest)
        row[0] = 0
        super().__init__(int(row.max()) + 1, dim, padding_idx=0, sparse=True)
        self.shared_row = rest  # of ids that are not admitted; 0: they have none
        self.register_buffer("row", row, persistent=False)  # (N,)
        _reset(self, std)

    def forward(self, ids: Tensor) -> Tensor:
        """Ids (B,) to (B, d)."""
        return super().forward(self.row[ids])


class ClusterGuidedEmbedding(nn.Module):
    """``e = r c + (1 - r) d``: an individual row d, a cluster part c and a gate r that reads activity.

    ``cluster_mode`` says what c is: ``per_id`` a second row of the id (the paper's reading), ``prefix`` the sum of the
    rows of the id's code prefixes, ``hybrid`` that sum plus a residual of the id that starts at zero, ``codes`` the sum
    of a row a level and code whatever the codes before it [TIGER], ``none`` nothing (e = d). ``mix`` says how they
    join: by the gate, as a plain sum, or c alone. An id without a code has no prefix to lean on: it keeps e = d. An id
    that is not admitted has no d of its own: with a code its gate is 1, so e = c.
    """

    def __init__(self, config: ModelConfig, lookup: EntityLookup, prefixes: Tensor, admission: int = 0) -> None:
        super().__init__()
        self.mode, self.how = config.cluster_mode, config.mix
        self.scaler = ActivityScaler(lookup.activity, lookup.impressions)
        admitted = lookup.admitted(admission)
        self.individual = IdTable(admitted, config.dim, INITIAL_STD, shared=True)
        self.prefix_rows = self.own_rows = self.gate = self.scale = None
        if self.mode == "none":
            return
        shared = lookup.level_codes() if self.mode == "codes" else prefixes
        if self.how == "gate":
            self.gate = new_gate(config, self.scaler, lookup.activity.shape[1])
        if self.mode != "per_id":
            self.prefix_rows = nn.EmbeddingBag(
                int(shared.max()) + 1, config.dim, mode="sum", sparse=True, padding_idx=0
            )
            _reset(self.prefix_rows, INITIAL_STD * shared.shape[1] ** -0.5)  # the sum has the scale of d
        if self.mode in ("per_id", "hybrid"):
            self.own_rows = IdTable(admitted, config.dim, 0.0 if self.mode == "hybrid" else INITIAL_STD)
        if self.mode == "per_id" and config.normalise_cluster:
            self.scale = nn.Parameter(torch.tensor(0.5))
        self.register_buffer("prefixes", shared, persistent=False)  # (N, L)
        self.register_buffer("admitted", admitted, persistent=False)  # (N,)
        self.all_admitted = bool(admitted[1:].all())
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
        return self._where_coded(ids, torch.where(self.admitted[ids, None], weight, torch.ones_like(weight)))

    def _where_coded(self, ids: Tensor, values: Tensor) -> Tensor:
        """Values (B, W), zero for ids (B,) that would need a code and have none."""
        if self.prefix_rows is None:
            return values
        return torch.where(self.prefixes[ids, :1] > 0, values, torch.zeros_like(values))

    def mix(self, ids: Tensor, individual: Tensor, activity: Tensor, frozen: bool = False) -> Tensor:
        """Fused embeddings e (B, d) of ids (B,) whose individual rows (B, d) are already gathered."""
        if self.mode == "none":
            return individual
        if self.how == "sum":
            return individual + self._where_coded(ids, self.cluster(ids))
        if self.how == "cluster":
            return torch.lerp(individual, self.cluster(ids), self._where_coded(ids, torch.ones_like(individual)))
        return torch.lerp(individual, self.cluster(ids), self.weight(ids, activity, frozen))

    def without_gate(self, ids: Tensor, individual: Tensor) -> Tensor:
        """What stands for ids (B,) in a history that shows no e: d, but c for an id without a row of its own.

        Args:
            ids: (B,).
            individual: (B, d) their individual rows.
        """
        if self.mode == "none" or (self.how != "cluster" and self.all_admitted):
            return individual
        own = self.admitted[ids, None] & (self.how != "cluster")
        coded = self._where_coded(ids, torch.ones_like(individual)) > 0
        return torch.where(own | ~coded, individual, self.cluster(ids))

    @torch.no_grad()
    def snapshot(self, ids: Tensor) -> Tensor:
        """Fused embeddings e (B, d) of ids (B,) by their activity in the look-up, without gradient."""
        if self.mode == "none":
            return self.individual(ids)
        return self.mix(ids, self.individual(ids), self.activity[ids], frozen=True)

    def orthogonality(self, ids: Tensor) -> Tensor:
        """Mean of cos(c, d)^2 over the distinct admitted ids of (B,) (paper, equation 5): a scalar in [0, 1]."""
        distinct = torch.unique(ids)
        counted = self.admitted[distinct]
        cosines = squared_cosine(self.cluster(distinct), self.individual(distinct))
        return (cosines * counted).sum() / counted.sum().clamp_min(1)

    def agreement(self, ids: Tensor, activity: Tensor) -> Tensor:
        """``(1 - r) KL(sg(d) || c) + r KL(d || sg(c))`` on softmaxes over the width, a mean over (B,): a scalar.

        The rarer the id, the more d is drawn to the cluster part and the less it draws it (rival ``kl_gate``; the
        softmax is ours). Ids without a code or without a row have no part in it.
        """
        c, d = F.log_softmax(self.cluster(ids), 1), F.log_softmax(self.individual(ids), 1)
        weight = self.weight(ids, activity, frozen=True)[:, 0]  # (B,), the batch has moved the statistics already
        to_cluster = F.kl_div(c, d.detach(), reduction="none", log_target=True).sum(1)
        to_individual = F.kl_div(c.detach(), d, reduction="none", log_target=True).sum(1)
        counted = self.admitted[ids] & (weight > 0)
        return (((1 - weight) * to_cluster + weight * to_individual) * counted).mean()


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


@torch.no_grad()
def _reset(table: nn.Embedding | nn.EmbeddingBag, std: float) -> None:
    table.weight.normal_(std=std) if std else table.weight.zero_()
    table.weight[0] = 0.0
