"""What makes a logit of the features of a sample: a plain MLP, a mixture of experts, or a tower gated by activity.

Shapes: B samples, W features, A activity features of user and item together.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from akt_spark.config import ModelConfig
from akt_spark.ranker.embedding import AttributeEmbedding, IdTable
from akt_spark.ranker.lookup import EntityLookup

POSO_SCALE = 2.0  # with gates of one half, the layers start as they would be without


class Tower(nn.Module):
    """An MLP with ReLU."""

    def __init__(self, width: int, config: ModelConfig) -> None:
        super().__init__()
        self.layers = _layers([width, *config.hidden], config.dropout)
        self.out = nn.Linear(config.hidden[-1], 1)

    def forward(self, features: Tensor, activity: Tensor) -> Tensor:
        """Features (B, W) and scaled activity (B, A) to logits (B,)."""
        for layer in self.layers:
            features = layer(features)
        return self.out(features)[:, 0]


class MixtureOfExperts(nn.Module):
    """``h(sum_k g_k(x) E_k(x))``, g a softmax: MMoE (Ma et al. 2018) for one task."""

    def __init__(self, width: int, config: ModelConfig) -> None:
        super().__init__()
        experts = [nn.Sequential(*_layers([width, *config.hidden], config.dropout)) for _ in range(config.experts)]
        self.experts = nn.ModuleList(experts)
        self.choice = nn.Linear(width, config.experts)
        self.out = nn.Linear(config.hidden[-1], 1)

    def forward(self, features: Tensor, activity: Tensor) -> Tensor:
        """Features (B, W) and scaled activity (B, A) to logits (B,)."""
        found = torch.stack([expert(features) for expert in self.experts], 1)  # (B, K, h)
        weights = torch.softmax(self.choice(features), 1)  # (B, K)
        return self.out((weights[..., None] * found).sum(1))[:, 0]


class PosoTower(nn.Module):
    """``2 sigmoid(MLP(a)) * relu(W x)`` in every layer, a the activity: POSO for MLPs (arXiv 2108.04690)."""

    def __init__(self, width: int, config: ModelConfig, activity_features: int) -> None:
        super().__init__()
        self.layers, narrow = _layers([width, *config.hidden], config.dropout), config.attention_hidden
        self.gates = nn.ModuleList(
            nn.Sequential(nn.Linear(activity_features, narrow), nn.ReLU(), nn.Linear(narrow, wide))
            for wide in config.hidden
        )
        self.out = nn.Linear(config.hidden[-1], 1)

    def forward(self, features: Tensor, activity: Tensor) -> Tensor:
        """Features (B, W) and scaled activity (B, A) to logits (B,)."""
        for layer, gate in zip(self.layers, self.gates, strict=True):
            features = POSO_SCALE * torch.sigmoid(gate(activity)) * layer(features)
        return self.out(features)[:, 0]


class Wide(nn.Module):
    """A weight an id and attribute value of user and item: the linear part of Wide & Deep (Cheng et al. 2016)."""

    def __init__(self, items: EntityLookup, users: EntityLookup) -> None:
        super().__init__()
        self.ids = nn.ModuleList(IdTable(side.admitted(0), 1, std=0.0) for side in (items, users))
        self.attributes = nn.ModuleList(AttributeEmbedding(side.attributes, 1) for side in (items, users))

    def forward(self, items: Tensor, users: Tensor) -> Tensor:
        """Ids, each (B,), to logits (B,)."""
        tables = zip((*self.ids, *self.attributes), (items, users, items, users), strict=True)
        return sum(table(ids)[:, 0] for table, ids in tables)


def new_tower(config: ModelConfig, width: int, activity_features: int) -> nn.Module:
    """The tower that is configured, for so many features."""
    if config.tower == "experts":
        return MixtureOfExperts(width, config)
    if config.tower == "poso":
        return PosoTower(width, config, activity_features)
    return Tower(width, config)


def _layers(widths: list[int], dropout: float) -> nn.ModuleList:
    return nn.ModuleList(nn.Sequential(nn.Linear(a, b), nn.ReLU(), nn.Dropout(dropout)) for a, b in pairwise(widths))
