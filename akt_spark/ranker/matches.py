"""How much of a history shares something with the target: counts of equal ids, categories and prefixes (ours).

What SimTier's histogram (arXiv 2407.19467) says by content vectors, integers say too: how many of the history are the
target itself, are of its category, or share its first one, two, ... codes. No vector is read.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from akt_spark.config import ModelConfig
from akt_spark.ranker.lookup import EntityLookup


class MatchCounts(nn.Module):
    """A block of width d of log(1 + count) of the entries of a whole history that match its target, by kind.

    Kinds are those that `ModelConfig.match_counts` names: ``item``, ``category``, and ``sid``, one count a prefix
    length. The length of the history stands beside them.
    """

    def __init__(self, config: ModelConfig, items: EntityLookup) -> None:
        super().__init__()
        keys = {"item": torch.arange(len(items))[:, None], "category": items.category[:, None], "sid": items.prefixes()}
        key = torch.cat([keys[kind] for kind in config.match_counts], 1)
        self.register_buffer("key", key, persistent=False)  # (N, K) 0 matches nothing
        self.project = nn.Linear(key.shape[1] + 1, config.dim)
        self.width = config.dim

    def forward(self, items: Tensor, history: Tensor) -> Tensor:
        """Items (B,) and histories (B, L) padded with 0: (B, d)."""
        target = self.key[items][:, None]  # (B, 1, K)
        matches = (self.key[history] == target) & (target > 0)  # (B, L, K)
        length = (history > 0).sum(1, keepdim=True)  # (B, 1)
        counts = torch.cat([matches.sum(1), length], 1)  # (B, K + 1)
        return self.project(counts.to(self.project.weight.dtype).log1p())
