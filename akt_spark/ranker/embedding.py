"""Cluster-guided adaptive embedding of one entity (method.md 5.1, 5.2, 5.6)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from akt_spark.config import ModelConfig
from akt_spark.ranker.content_start import level_means, projected
from akt_spark.ranker.gate import COUNTS, ActivityScaler, new_gate
from akt_spark.ranker.lookup import STUDENT, EntityLookup

INITIAL_STD = 0.05  # of ID tables
SHORTEST = 1e-8  # length of a vector that has a direction


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

    @torch.no_grad()
    def start(self, values: Tensor, ids: Tensor) -> None:
        """Takes the rows of admitted ids (M,) from values (N, d) of all ids."""
        self.weight[self.row[ids]] = values[ids]


class ClusterGuidedEmbedding(nn.Module):
    """``e = r c + (1 - r) d``: an individual row d, a cluster part c and a gate r that reads activity.

    ``cluster_mode`` says what c is: ``per_id`` a second row of the id (the paper's reading), ``prefix`` the sum of the
    rows of the id's code prefixes, ``hybrid`` that sum plus a residual of the id that starts at zero, ``codes`` the sum
    of a row a level and code whatever the codes before it [TIGER], ``none`` nothing (e = d). ``mix`` says how they
    join: by the gate, as a plain sum, or c alone. An id without a code has no prefix to lean on: it keeps e = d. An id
    that is not admitted has no d of its own: with a code its gate is 1, so e = c.
    """

    def __init__(
        self,
        config: ModelConfig,
        lookup: EntityLookup,
        prefixes: Tensor,
        admission: int = 0,
        from_content: bool = False,
    ) -> None:
        super().__init__()
        self.mode, self.how = config.cluster_mode, config.mix
        self.stop_cluster = config.orthogonality_stop_cluster
        self.scaler = ActivityScaler(lookup.activity, lookup.impressions)
        admitted = lookup.admitted(admission)
        self.individual = IdTable(admitted, config.dim, INITIAL_STD, shared=True)
        self.prefix_rows = self.own_rows = self.gate = self.scale = None
        known = admitted & lookup.vector.any(1) if from_content else torch.zeros_like(admitted)
        if from_content:
            self.individual.start(projected(lookup.vector, config.dim, INITIAL_STD, draw=0), known.nonzero()[:, 0])
        if self.mode == "none":
            return
        shared = lookup.level_codes() if self.mode == "codes" else lookup.supported(prefixes, config.prefix_members)
        if self.how == "gate":
            self.gate = new_gate(config, self.scaler, lookup.activity.shape[1])
        if self.mode != "per_id":
            self.prefix_rows = nn.EmbeddingBag(
                int(shared.max()) + 1, config.dim, mode="sum", sparse=True, padding_idx=0
            )
            _reset(self.prefix_rows, INITIAL_STD * shared.shape[1] ** -0.5)  # the sum has the scale of d
        own = lookup.admitted(least_for_own_row(config, admission))
        if self.mode in ("per_id", "hybrid"):
            self.own_rows = IdTable(own, config.dim, 0.0 if self.mode == "hybrid" else INITIAL_STD)
        if self.mode == "per_id" and config.normalise_cluster:
            self.scale = nn.Parameter(torch.tensor(0.5))
        if from_content:
            self._start_from_content(projected(lookup.vector, config.dim, INITIAL_STD, draw=1), shared, known & own)
        blocked = None
        if config.block_tail_prefix:
            blocked = lookup.taught(shared)[shared] & (lookup.role == STUDENT)[:, None]
        self.register_buffer("blocked", blocked, persistent=False)  # (N, L) rows that an id reads and does not move
        self.register_buffer("prefixes", shared, persistent=False)  # (N, L)
        self.register_buffer("admitted", admitted, persistent=False)  # (N,)
        self.all_admitted = bool(admitted[1:].all())
        self.register_buffer("activity", lookup.activity, persistent=False)  # (N, F)

    @torch.no_grad()
    def _start_from_content(self, values: Tensor, shared: Tensor, own: Tensor) -> None:
        """Cluster parts from projected vectors (N, d): shared rows (N, L) from means, second rows from those of ids."""
        if self.prefix_rows is not None:
            means, found = level_means(values, shared)
            self.prefix_rows.weight[found] = means[found]
        if self.mode == "per_id":
            self.own_rows.start(values, own.nonzero()[:, 0])

    def cluster(self, ids: Tensor, own_rows_only: bool = False) -> Tensor:
        """Cluster parts c of ids (B,): (B, d).

        ``own_rows_only`` stops the gradient into what ids share (prefix rows, scale): as a student of the transfer an
        id must not move its teachers (method.md 5.1).
        """
        parts = []
        if self.prefix_rows is not None:
            shared = self._shared(ids)  # (B, d)
            parts.append(shared.detach() if own_rows_only else shared)
        if self.own_rows is not None:
            own = self.own_rows(ids)  # (B, d)
            if self.scale is not None:
                scale = self.scale.detach() if own_rows_only else self.scale
                own = scale * unit(own)
            parts.append(own)
        return sum(parts[1:], parts[0])

    def _shared(self, ids: Tensor) -> Tensor:
        """Sums of the rows that ids (B,) share with others: (B, d)."""
        rows = self.prefixes[ids]  # (B, L)
        if self.blocked is None:
            return self.prefix_rows(rows)
        blocked = self.blocked[ids]
        read_only = self.prefix_rows(rows.masked_fill(~blocked, 0)).detach()
        return self.prefix_rows(rows.masked_fill(blocked, 0)) + read_only

    def weight(self, ids: Tensor, activity: Tensor, frozen: bool = False) -> Tensor:
        """Gate r of ids (B,) with raw activity (B, F): (B, 1)."""
        weight = self.gate(self.scaler(activity), frozen)
        return self._where_coded(ids, torch.where(self.admitted[ids, None], weight, torch.ones_like(weight)))

    def _where_coded(self, ids: Tensor, values: Tensor) -> Tensor:
        """Values (B, W), zero for ids (B,) that would need a code and have none."""
        return torch.where(self.coded(ids)[:, None], values, torch.zeros_like(values))

    def coded(self, ids: Tensor) -> Tensor:
        """Whether ids (B,) have a cluster part: (B,) bool."""
        if self.prefix_rows is None:
            return torch.full_like(ids, self.mode != "none", dtype=torch.bool)
        return self.prefixes[ids, 0] > 0

    def mix(
        self, ids: Tensor, individual: Tensor, activity: Tensor, frozen: bool = False, own_rows_only: bool = False
    ) -> Tensor:
        """Fused embeddings e (B, d) of ids (B,) whose individual rows (B, d) are already gathered.

        ``own_rows_only`` lets the gradient into own rows of c alone, as in `cluster`.
        """
        if self.mode == "none":
            return individual
        cluster = self.cluster(ids, own_rows_only)
        individual = individual.detach() if own_rows_only else individual
        if self.how == "sum":
            return individual + self._where_coded(ids, cluster)
        if self.how == "cluster":
            return torch.lerp(individual, cluster, self._where_coded(ids, torch.ones_like(individual)))
        weight = self.weight(ids, activity, frozen)
        return torch.lerp(individual, cluster, weight.detach() if own_rows_only else weight)

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

    def fused(self, ids: Tensor, own_rows_only: bool = False) -> Tensor:
        """Fused embeddings e (B, d) of ids (B,) by their activity in the look-up; ``own_rows_only`` as in `mix`."""
        if self.mode == "none":
            return self.individual(ids)
        return self.mix(ids, self.individual(ids), self.activity[ids], frozen=True, own_rows_only=own_rows_only)

    @torch.no_grad()
    def snapshot(self, ids: Tensor) -> Tensor:
        """`fused` without gradient."""
        return self.fused(ids)

    def orthogonality(self, ids: Tensor) -> Tensor:
        """Mean of cos(c, d)^2 over the distinct admitted ids of (B,) (paper, equation 5): a scalar in [0, 1]."""
        distinct = torch.unique(ids)
        counted = self.admitted[distinct]
        cluster = self.cluster(distinct)
        cosines = squared_cosine(cluster.detach() if self.stop_cluster else cluster, self.individual(distinct))
        return (cosines * counted).sum() / counted.sum().clamp_min(1)

    def rise(self, ids: Tensor, activity: Tensor) -> Tensor:
        """Mean of max(0, dr / d log1p(n)) over ids (B,) with activity (B, F), a scalar (method.md 5.2, monotone prior).

        n counts impressions, or what is most frequent in a log that does not say what was shown, as `ShrinkageGate`
        does. Ids without a gate of their own add nothing.
        """
        count = int(self.scaler.mean[COUNTS].argmax())
        slope = self.gate.slope(self.scaler(activity), count) / self.scaler.std[count]  # (B,)
        return (F.relu(slope) * (self.admitted[ids] & self.coded(ids))).mean()

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
    return (unit(left) * unit(right)).sum(-1) ** 2


def unit(rows: Tensor) -> Tensor:
    """Rows (..., d) at length 1. One shorter than 1e-8 has no direction: it becomes zeros, and has no gradient.

    Divided by an eps instead, its gradient would be finite, but 1e8 times that of its neighbours.
    """
    length = rows.norm(dim=-1, keepdim=True)
    return torch.where(length > SHORTEST, rows / length.clamp_min(SHORTEST), torch.zeros_like(rows))


def least_for_own_row(config: ModelConfig, admission: int) -> int:
    """Training impressions of an id that has a row of its own in its cluster part, and so may be a student."""
    return admission if config.transfer_cold else max(admission, 1)


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
