"""Predicting the next click: what user models train on, their loss, and how they are judged (method.md 3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from akt_spark.config import InterestConfig


@dataclass(frozen=True)
class ClickData:
    """Clicks of sampled users on the driver.

    Attributes:
        vectors: (N, dim) float32, aligned vectors of all items clicked.
        category: (N,) int64 class of an item's leaf category, -1 where it has none.
        categories: number of classes.
        histories: one array a user: positions of clicked items, oldest first, at least 2.
        profiles: attribute buckets a user.
        held_out: (U,) bool, users kept from training.
    """

    vectors: np.ndarray
    category: np.ndarray
    categories: int
    histories: list[np.ndarray]
    profiles: list[list[int]]
    held_out: np.ndarray


@dataclass(frozen=True)
class Items:
    """Per item: vectors (N, dim), category (N,), and share (N,), its part of all training clicks."""

    vectors: Tensor
    category: Tensor
    share: Tensor

    @classmethod
    def of(cls, data: ClickData, training: np.ndarray, device: str | torch.device = "cpu") -> Items:
        """Tensors of the items, with shares counted over the training users."""
        clicks = np.bincount(np.concatenate([data.histories[u] for u in training]), minlength=len(data.vectors))
        share = torch.from_numpy(clicks / clicks.sum()).float().clamp(1e-9, 1 - 1e-6)
        tensors = torch.from_numpy(data.vectors), torch.from_numpy(data.category), share
        return cls(*(tensor.to(device) for tensor in tensors))


@dataclass(frozen=True)
class Earlier:
    """Clicks before the predicted ones: which prediction (E,), and the position of the item (E,)."""

    prediction: Tensor
    item: Tensor


def next_click_loss(
    interest: Tensor,
    categories: Tensor,
    target: Tensor,
    drawn: Tensor,
    earlier: Earlier,
    items: Items,
    config: InterestConfig,
) -> Tensor:
    """The loss of T predictions, plus the cross-entropy of the clicked items' categories.

    ``infonce`` is over the distinct clicked items of the batch, corrected by log q: q of an item is its chance of being
    among them, 1 - (1 - share)^drawn. What the same user clicked earlier does not compete, as in `recall_of` (ours): it
    lies near the interest for good reason, and pushing it away drives the interest from all that is like it.
    ``cosine`` is the negative cosine to the clicked item, and nothing else.

    Args:
        interest: (T, dim), L2-normalised.
        categories: (T, C) logits.
        target: (T,) positions of the items clicked next.
        drawn: (D,) positions of the batch's clicks: the candidates, targets among them.
        earlier: what the users of the predictions clicked before.
        items: what is known of them.
        config: which loss; temperature and weight of the category.
    """
    if config.loss == "cosine":
        loss = -(interest * items.vectors[target]).sum(1).mean()
    else:
        candidates = drawn.unique()
        log_q = (-torch.expm1(len(drawn) * torch.log1p(-items.share[candidates]))).log()
        scores = interest @ items.vectors[candidates].T / config.temperature - log_q
        scores = scores.masked_fill(_clicked(earlier, target, candidates), -torch.inf)
        loss = F.cross_entropy(scores, torch.searchsorted(candidates, target))
    category = items.category[target]
    if config.category_weight and (category >= 0).any():
        loss = loss + config.category_weight * F.cross_entropy(categories, category, ignore_index=-1)
    return loss


def _clicked(earlier: Earlier, target: Tensor, candidates: Tensor) -> Tensor:
    """(T, C) whether a candidate was clicked before a prediction; never of the target, which may be clicked again."""
    column = torch.searchsorted(candidates, earlier.item).clamp(max=len(candidates) - 1)
    leaves = (candidates[column] == earlier.item) & (target[earlier.prediction] != earlier.item)
    clicked = torch.zeros(len(target), len(candidates), dtype=torch.bool, device=target.device)
    clicked[earlier.prediction[leaves], column[leaves]] = True
    return clicked


def recall_of(expected: Mapping[int, Tensor], cuts: Mapping[int, np.ndarray], data: ClickData, k: int) -> float:
    """Share of clicks among the k items nearest to what was expected, over users.

    Items the user clicked earlier do not compete; ties, and what is not a number, count against the model.

    Args:
        expected: (T, dim) a user.
        cuts: (T,) likewise: which click of the history is the target.
        data: items and histories.
        k: size of the neighbourhood.
    """
    items, hits, clicks = torch.from_numpy(data.vectors), 0, 0
    for user, guesses in expected.items():
        hits += _hits(guesses @ items.T, data.histories[user], cuts[user], k)
        clicks += len(guesses)
    return hits / max(clicks, 1)


def mean_pooled(data: ClickData, user: int, cuts: np.ndarray) -> Tensor:
    """(T, dim) sums of all vectors before each cut: as good as their mean, where only the order of items counts."""
    clicked = torch.from_numpy(data.vectors[data.histories[user]])
    return torch.cat([torch.zeros_like(clicked[:1]), clicked.cumsum(0)])[torch.from_numpy(cuts)]


def variance_ratio(users: np.ndarray, items: np.ndarray) -> float:
    """Total variance of user vectors (U, d) over that of item vectors (N, d); 0 when all users are one point."""
    return float(users.var(axis=0).sum() / max(items.var(axis=0).sum(), 1e-12))


def _hits(scores: Tensor, history: np.ndarray, cuts: np.ndarray, k: int) -> int:
    """Rows of (T, N) scores whose target is among the k best, earlier clicks left out."""
    rows, target = torch.arange(len(scores)), torch.from_numpy(history[cuts])
    row, earlier = np.nonzero(np.arange(len(history)) < cuts[:, None])
    competes = torch.ones_like(scores, dtype=torch.bool)
    competes[row, history[earlier]] = False
    competes[rows, target] = False
    better = (~(scores < scores[rows, target][:, None]) & competes).sum(1)
    return int((better < k).sum())
