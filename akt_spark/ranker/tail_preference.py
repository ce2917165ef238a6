"""TailNet's preference for head or tail items (arXiv 2007.12329), made pointwise by us."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from akt_spark.config import ModelConfig
from akt_spark.ranker.lookup import EntityLookup

HEAD_SHARE = 0.2  # of the items that were shown, by impressions


class TailPreference(nn.Module):
    """``kappa log R``: what is added to a logit, with R_tail = sigmoid(W V) and R_head = 1 - R_tail by the item's type.

    V is the attended recent history. TailNet multiplies the scores of all items by R and normalises over the
    catalogue; a click model has one item at a time, so R enters its logit. Heads are the most popular fifth of the
    items, as TailNet has it (by clicks of its sessions; here by training impressions), whoever teaches here.
    """

    def __init__(self, config: ModelConfig, items: EntityLookup) -> None:
        super().__init__()
        self.kappa = config.tail_preference
        self.preference = nn.Linear(config.dim, 1)
        sign = torch.where(most_shown(items.impressions, HEAD_SHARE), -1.0, 1.0)
        self.register_buffer("sign", sign, persistent=False)  # (N,) head: -1

    def forward(self, history: Tensor, items: Tensor) -> Tensor:
        """Attended histories (B, d) and items (B,) to (B,)."""
        return self.kappa * F.logsigmoid(self.sign[items] * self.preference(history)[:, 0])


def most_shown(impressions: Tensor, share: float) -> Tensor:
    """Ids with the most impressions (N,), this share of those with any; equal counts stay together: (N,) bool."""
    counts = impressions[impressions > 0].sort(descending=True).values
    if not len(counts):
        return torch.zeros_like(impressions, dtype=torch.bool)
    return impressions >= counts[max(round(share * len(counts)), 1) - 1]
