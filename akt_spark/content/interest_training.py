"""Training of the interest model, in one process (method.md 3)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from akt_spark.config import InterestConfig
from akt_spark.content.interest import InterestModel


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
    def of(cls, data: ClickData, training: np.ndarray) -> Items:
        """Tensors of the items, with shares counted over the training users."""
        clicks = np.bincount(np.concatenate([data.histories[u] for u in training]), minlength=len(data.vectors))
        share = torch.from_numpy(clicks / clicks.sum()).float().clamp(1e-9, 1 - 1e-6)
        return cls(torch.from_numpy(data.vectors), torch.from_numpy(data.category), share)


def train_interest(data: ClickData, config: InterestConfig, recall_k: int) -> tuple[InterestModel, dict[str, float]]:
    """Trains on the users that are not held out.

    Returns:
        The model; recall of the next click of held-out users, by the model and by the mean of their clicks; and the
        variance of the interests of all sampled users against that of items (collapse: near 0).
    """
    torch.manual_seed(config.seed)  # initialisation and dropout
    rng = np.random.default_rng(config.seed)
    model = InterestModel.create(data.vectors.shape[1], max(data.categories, 1), config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=0.01)
    training = np.flatnonzero(~data.held_out)
    items = Items.of(data, training)
    for epoch in range(1, config.epochs + 1):
        model.train()
        losses = []
        for users in _batches(rng.permutation(training), config.batch_size):
            loss = _loss(model, items, data, users, config)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        print(f"interest epoch {epoch}: loss {np.mean(losses):.3f}", flush=True)
    return model, {
        "variance_ratio": variance_ratio(interests(model, data, config.batch_size), data.vectors),
        **_next_click_recall(model, items.vectors, data, recall_k),
        "users": float(len(training)),
        "held_out_users": float(data.held_out.sum()),
    }


def variance_ratio(users: np.ndarray, items: np.ndarray) -> float:
    """Total variance of user vectors (U, d) over that of item vectors (N, d); 0 when all users are one point."""
    return float(users.var(axis=0).sum() / max(items.var(axis=0).sum(), 1e-12))


def interests(model: InterestModel, data: ClickData, batch_size: int) -> np.ndarray:
    """(U, dim) vectors of all sampled users, after all their clicks."""
    parts = [
        model.encode([data.vectors[data.histories[u]] for u in users], [data.profiles[u] for u in users])
        for users in _batches(np.arange(len(data.histories)), batch_size)
    ]
    return np.concatenate(parts)


def _batches(users: np.ndarray, size: int) -> Iterator[np.ndarray]:
    return (users[start : start + size] for start in range(0, len(users), size))


def _padded(data: ClickData, users: np.ndarray) -> np.ndarray:
    """(B, H) item positions, oldest first, -1 behind the end."""
    longest = max(len(data.histories[u]) for u in users)
    rows = [np.pad(data.histories[u], (0, longest - len(data.histories[u])), constant_values=-1) for u in users]
    return np.stack(rows)


def _loss(model: InterestModel, items: Items, data: ClickData, users: np.ndarray, config: InterestConfig) -> Tensor:
    """In-batch InfoNCE over the distinct next items, corrected by log q, plus the cross-entropy of their category.

    q of an item is its chance of being among the candidates, 1 - (1 - share)^targets. The first click of a user
    without profile is no target: nothing is known before it.
    """
    history = torch.from_numpy(_padded(data, users))  # (B, H)
    profiles = [data.profiles[user] for user in users]
    interest, hidden = model(items.vectors[history.clamp(min=0)] * (history >= 0)[..., None], profiles)
    wanted = history >= 0
    wanted[:, 0] &= torch.tensor([bool(profile) for profile in profiles])
    target, interest, hidden = history[wanted], interest[:, :-1][wanted], hidden[:, :-1][wanted]  # (T,), (T, dim) x 2
    candidates, place = target.unique(return_inverse=True)
    log_q = (-torch.expm1(len(target) * torch.log1p(-items.share[candidates]))).log()
    loss = F.cross_entropy(interest @ items.vectors[candidates].T / config.temperature - log_q, place)
    category = items.category[target]
    if config.category_weight and (category >= 0).any():
        loss = loss + config.category_weight * F.cross_entropy(model.next_category(hidden), category, ignore_index=-1)
    return loss


@torch.inference_mode()
def _next_click_recall(model: InterestModel, items: Tensor, data: ClickData, k: int) -> dict[str, float]:
    """Share of held-out users' clicks (from the second on) among the k items nearest to what was expected.

    Items the user clicked earlier do not compete; ties count against the model.
    """
    model.eval()
    hits, clicks = {"recall_interest": 0, "recall_mean_pooled": 0}, 0
    for user in np.flatnonzero(data.held_out):
        history = data.histories[user]
        seen = items[history]  # (H, dim)
        expected = model(seen[None], [data.profiles[user]])[0][0, 1:-1]  # (H - 1, dim): before the second click, ...
        clicks += len(expected)
        for name, guess in (("recall_interest", expected), ("recall_mean_pooled", seen.cumsum(0)[:-1])):
            hits[name] += _hits(guess @ items.T, torch.from_numpy(history), k)
    return {name: count / max(clicks, 1) for name, count in hits.items()}


def _hits(scores: Tensor, history: Tensor, k: int) -> int:
    """Rows t of (H - 1, N) scores whose target, click t + 1, is among the k best, earlier clicks left out."""
    rows, target = torch.arange(len(scores)), history[1:]
    competes = torch.ones_like(scores, dtype=torch.bool)
    row, earlier = torch.tril(torch.ones(len(rows), len(rows))).nonzero().T
    competes[row, history[earlier]] = False
    competes[rows, target] = False
    better = ((scores >= scores[rows, target][:, None]) & competes).sum(1)
    return int((better < k).sum())
