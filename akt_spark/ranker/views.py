"""The cluster view and its fusion with the instance view (method.md 6)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from akt_spark.ranker.gate import ActivityGate

HEAVY = 0.2  # share of its cluster's weight from which an id is left out of the mean that it reads
CHUNK = 65_536
SHARES = {"constant": 0.5, "instance": 0.0, "cluster": 1.0}  # of the cluster view, where no gate is learned

Features = Callable[[Tensor], Tensor]  # ids (M,) to (M, W)


class ClusterMeans(nn.Module):
    """Means of member features by level-1 cluster, weighted by log1p(impressions): a snapshot without gradient.

    A live mean, which can be asked for, sends the clicks of one sample into other ids (method.md 6.1). Weights and
    features are of the end of the training period, and so tell a training sample what came after it; of its own id that
    would be its label. So members with a share of `HEAVY` or more, at most five a cluster, read a mean without
    themselves, from a row of their own (docs/method.md 4). Where no weight is left the mean is zero.
    """

    def __init__(self, clusters: Tensor, impressions: Tensor, width: int) -> None:
        """Takes the level-1 cluster (N,) of every id, 0 for none, its impressions (N,) and the features' width."""
        super().__init__()
        weights = impressions.double().log1p()  # (N,)
        total = weights.new_zeros(int(clusters.max()) + 1).index_add_(0, clusters, weights)  # (K,)
        heavy = ((clusters > 0) & (weights > 0) & (weights >= HEAVY * total[clusters])).nonzero()[:, 0]  # (S,)
        row = clusters.clone()
        row[heavy] = len(total) + torch.arange(len(heavy))
        self.register_buffer("clusters", clusters, persistent=False)
        self.register_buffer("row", row, persistent=False)  # (N,) into bank
        self.register_buffer("heavy", heavy, persistent=False)
        self.register_buffer("weights", weights, persistent=False)
        self.register_buffer("bank", torch.zeros(len(total) + len(heavy), width))

    def forward(self, ids: Tensor, live: Features | None = None) -> Tensor:
        """Ids (B,) to the means (B, W) of their clusters, as they are now where ``live``; zeros without a code."""
        bank = self.bank if live is None else self._means(live)
        return bank[self.row[ids]]

    @torch.no_grad()
    def refresh(self, features: Features) -> None:
        """Takes a new snapshot."""
        self.bank.copy_(self._means(features))

    def _means(self, features: Features) -> Tensor:
        rows = len(self.bank) - len(self.heavy)
        total = self.bank.new_zeros(rows, self.bank.shape[1], dtype=torch.float64)  # (K, W)
        for ids in torch.arange(len(self.clusters), device=self.bank.device).split(CHUNK):
            total.index_add_(0, self.clusters[ids], self.weights[ids, None] * features(ids).double())
        weight = total.new_zeros(rows).index_add_(0, self.clusters, self.weights)  # (K,)
        own_weight = self.weights[self.heavy]
        without_self = total[self.clusters[self.heavy]] - own_weight[:, None] * features(self.heavy).double()
        total = torch.cat([total, without_self])
        weight = torch.cat([weight, weight[self.clusters[self.heavy]] - own_weight])[:, None]
        means = total / weight.clamp_min(1e-6)
        means[0] = 0.0
        return means.to(self.bank.dtype)


class ViewFusion(nn.Module):
    """``alpha P_c H_clust + (1 - alpha) P_i H_inst``, alpha from the activity of user and item (paper, equation 7).

    The controls of method.md 9.2, A5, have another alpha: one half for all samples, or one view alone.
    """

    def __init__(
        self,
        widths: list[int],
        dim: int,
        activity_features: int,
        floor: float,
        instance_only: list[int],
        alpha: Literal["learned", "constant", "instance", "cluster"] = "learned",
    ) -> None:
        """Takes the widths of the blocks that both views have, in order, and of those that only the instance has."""
        super().__init__()
        self.from_instance = nn.ModuleList([nn.Linear(width, dim) for width in (*widths, *instance_only)])
        self.from_cluster = nn.ModuleList([nn.Linear(width, dim) for width in widths])
        self.share = SHARES.get(alpha)
        self.gate = ActivityGate(3 * activity_features, floor) if self.share is None else None

    def forward(self, instance: list[Tensor], cluster: list[Tensor], user: Tensor, item: Tensor) -> Tensor:
        """Blocks (B, width) of both views and scaled activities (B, F): (B, blocks of the instance * d)."""
        if self.gate is None:
            alpha = user.new_full((len(user), 1), self.share)
        else:
            alpha = self.gate(torch.cat([user, item, user * item], 1))  # (B, 1)
        near = torch.cat([linear(block) for linear, block in zip(self.from_instance, instance, strict=True)], 1)
        far = torch.cat([linear(block) for linear, block in zip(self.from_cluster, cluster, strict=True)], 1)
        far = F.pad(far, (0, near.shape[1] - far.shape[1]))  # a cluster has no statistics as of the sample
        return torch.lerp(near, far, alpha.to(near.dtype))
