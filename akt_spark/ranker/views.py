"""The cluster view and its fusion with the instance view (method.md 6)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from akt_spark.ranker.gate import ActivityGate

SMALL_CLUSTER = 5  # below it, an id is left out of the mean that it reads
CHUNK = 65_536
SHARES = {"constant": 0.5, "instance": 0.0, "cluster": 1.0}  # of the cluster view, where no gate is learned

Features = Callable[[Tensor], Tensor]  # ids (M,) to (M, W)


class ClusterMeans(nn.Module):
    """Means of member features by level-1 cluster, weighted by log1p(impressions): a snapshot without gradient.

    A live mean, which can be asked for, sends the clicks of one sample into other ids (method.md 6.1). Members of
    clusters below `SMALL_CLUSTER` read a mean without themselves, from a row of their own. Where no weight is left the
    mean is zero.
    """

    def __init__(self, clusters: Tensor, impressions: Tensor, width: int) -> None:
        """Takes the level-1 cluster (N,) of every id, 0 for none, its impressions (N,) and the features' width."""
        super().__init__()
        size = torch.bincount(clusters)  # (K,)
        small = ((clusters > 0) & (size[clusters] < SMALL_CLUSTER)).nonzero()[:, 0]  # (S,)
        row = clusters.clone()
        row[small] = len(size) + torch.arange(len(small))
        self.register_buffer("clusters", clusters, persistent=False)
        self.register_buffer("row", row, persistent=False)  # (N,) into bank
        self.register_buffer("small", small, persistent=False)
        self.register_buffer("weights", impressions.double().log1p(), persistent=False)
        self.register_buffer("bank", torch.zeros(len(size) + len(small), width))

    def forward(self, ids: Tensor, live: Features | None = None) -> Tensor:
        """Ids (B,) to the means (B, W) of their clusters, as they are now where ``live``; zeros without a code."""
        bank = self.bank if live is None else self._means(live)
        return bank[self.row[ids]]

    @torch.no_grad()
    def refresh(self, features: Features) -> None:
        """Takes a new snapshot."""
        self.bank.copy_(self._means(features))

    def _means(self, features: Features) -> Tensor:
        rows = len(self.bank) - len(self.small)
        total = self.bank.new_zeros(rows, self.bank.shape[1], dtype=torch.float64)  # (K, W)
        for ids in torch.arange(len(self.clusters), device=self.bank.device).split(CHUNK):
            total.index_add_(0, self.clusters[ids], self.weights[ids, None] * features(ids).double())
        weight = total.new_zeros(rows).index_add_(0, self.clusters, self.weights)  # (K,)
        own_weight = self.weights[self.small]
        without_self = total[self.clusters[self.small]] - own_weight[:, None] * features(self.small).double()
        total = torch.cat([total, without_self])
        weight = torch.cat([weight, weight[self.clusters[self.small]] - own_weight])[:, None]
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
        return torch.lerp(near, far, alpha)
