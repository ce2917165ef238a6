"""The cluster view, its fusion with the instance view, and the content view (method.md 6)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from akt_spark.ranker.gate import ActivityGate

SMALL_CLUSTER = 5  # below it, an id is left out of the mean that it reads
SIMILARITY_BINS = 22  # ceil(10 cos) + 10 is 0 .. 20; the last bin counts entries without a vector
CHUNK = 65_536


class ClusterMeans(nn.Module):
    """Means of member features by level-1 cluster, weighted by log1p(impressions): a snapshot without gradient.

    A live mean would send the clicks of one sample into other ids (method.md 6.1). Members of clusters below
    `SMALL_CLUSTER` read a mean without themselves, from a row of their own. Where no weight is left the mean is zero.
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

    def forward(self, ids: Tensor) -> Tensor:
        """Ids (B,) to the means (B, W) of their clusters; zeros for ids without a code."""
        return self.bank[self.row[ids]]

    @torch.no_grad()
    def refresh(self, features: nn.Module) -> None:
        """Recomputes the bank from ``features``: ids (M,) -> (M, W)."""
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
        self.bank.copy_(means)


class ViewFusion(nn.Module):
    """``alpha P_c H_clust + (1 - alpha) P_i H_inst``, alpha from the activity of user and item (paper, equation 7)."""

    def __init__(self, widths: list[int], dim: int, activity_features: int, floor: float) -> None:
        """Takes the widths of the blocks that both views have, in order."""
        super().__init__()
        self.from_instance = nn.ModuleList([nn.Linear(width, dim) for width in widths])
        self.from_cluster = nn.ModuleList([nn.Linear(width, dim) for width in widths])
        self.gate = ActivityGate(3 * activity_features, floor)

    def forward(self, instance: list[Tensor], cluster: list[Tensor], user: Tensor, item: Tensor) -> Tensor:
        """Blocks (B, width) of both views and scaled activities (B, F): (B, blocks * d)."""
        alpha = self.gate(torch.cat([user, item, user * item], 1))  # (B, 1)
        near = torch.cat([linear(block) for linear, block in zip(self.from_instance, instance, strict=True)], 1)
        far = torch.cat([linear(block) for linear, block in zip(self.from_cluster, cluster, strict=True)], 1)
        return torch.lerp(near, far, alpha)


class ContentView(nn.Module):
    """The target's content vector, the mean of the recent history's, and the histogram of their similarity.

    The histogram is SimTier's: log(1 + count) of an entry's cosine in bins of .1, each bin with an embedding (here
    they are summed: a linear map of the log counts). The vectors are frozen.
    """

    def __init__(self, vectors: Tensor, dim: int) -> None:
        """Takes the content vectors (N, D) of all items, zeros where there is none."""
        super().__init__()
        self.register_buffer("vectors", F.normalize(vectors, dim=1), persistent=False)
        self.register_buffer("known", vectors.any(1), persistent=False)  # (N,)
        self.target = nn.Linear(vectors.shape[1], dim)
        self.pooled = nn.Linear(vectors.shape[1], dim)
        self.histogram = nn.Linear(SIMILARITY_BINS, dim, bias=False)

    def forward(self, items: Tensor, recent: Tensor) -> Tensor:
        """Items (B,) and recent histories (B, T) padded with 0: (B, 3d)."""
        target = self.vectors[items]  # (B, D)
        entries = self.vectors.index_select(0, recent.flatten()).view(*recent.shape, -1)  # (B, T, D)
        mask = recent > 0
        known = mask & self.known[recent]  # (B, T)
        pooled = entries.sum(1) / known.sum(1, keepdim=True).clamp_min(1)  # rows without a vector add zeros
        cosine = torch.bmm(entries, target[..., None])[..., 0]  # (B, T)
        histogram = similarity_histogram(cosine, known & self.known[items, None], mask)
        return torch.cat([self.target(target), self.pooled(pooled), self.histogram(histogram)], 1)


def similarity_histogram(cosine: Tensor, comparable: Tensor, mask: Tensor) -> Tensor:
    """log(1 + count) of cosines by bins of .1 [SimTier]; entries that cannot be compared fall in the last bin.

    Takes cosines, comparable and mask, all (B, T); gives (B, 22).
    """
    bins = (torch.ceil(cosine * 10) + 10).long().clamp(0, SIMILARITY_BINS - 2)
    bins = torch.where(comparable, bins, SIMILARITY_BINS - 1)
    counts = cosine.new_zeros(len(cosine), SIMILARITY_BINS)
    return counts.scatter_add_(1, bins, mask.to(counts.dtype)).log1p()
