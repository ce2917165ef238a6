"""Training of the interest model, in one process (method.md 3)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from akt_spark.config import InterestConfig
from akt_spark.content.interest import InterestModel
from akt_spark.content.next_click import ClickData, Items, mean_pooled, next_click_loss, recall_of, variance_ratio


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
        **_next_click_recall(model, data, recall_k),
        "users": float(len(training)),
        "held_out_users": float(data.held_out.sum()),
    }


def interests(model: InterestModel, data: ClickData, batch_size: int) -> np.ndarray:
    """(U, dim) vectors of all sampled users, after all their clicks."""
    parts = [
        model.encode([data.vectors[data.histories[u]] for u in users], [data.profiles[u] for u in users])
        for users in _batches(np.arange(len(data.histories)), batch_size)
    ]
    return np.concatenate(parts)


@torch.inference_mode()
def expected(model: InterestModel, data: ClickData, cuts: Mapping[int, np.ndarray]) -> dict[int, Tensor]:
    """(T, dim) interests of each user before the given clicks of the history."""
    model.eval()
    found = {}
    for user, of_user in cuts.items():
        clicked = torch.from_numpy(data.vectors[data.histories[user]])  # (H, dim)
        found[user] = model(clicked[None], [data.profiles[user]])[0][0, of_user]
    return found


def _batches(users: np.ndarray, size: int) -> Iterator[np.ndarray]:
    return (users[start : start + size] for start in range(0, len(users), size))


def _padded(data: ClickData, users: np.ndarray) -> np.ndarray:
    """(B, H) item positions, oldest first, -1 behind the end."""
    longest = max(len(data.histories[u]) for u in users)
    rows = [np.pad(data.histories[u], (0, longest - len(data.histories[u])), constant_values=-1) for u in users]
    return np.stack(rows)


def _loss(model: InterestModel, items: Items, data: ClickData, users: np.ndarray, config: InterestConfig) -> Tensor:
    """Of all next clicks of these users; the first click of a user without profile is none: nothing is known then."""
    history = torch.from_numpy(_padded(data, users))  # (B, H)
    profiles = [data.profiles[user] for user in users]
    interest, hidden = model(items.vectors[history.clamp(min=0)] * (history >= 0)[..., None], profiles)
    wanted = history >= 0
    wanted[:, 0] &= torch.tensor([bool(profile) for profile in profiles])
    target, interest, hidden = history[wanted], interest[:, :-1][wanted], hidden[:, :-1][wanted]  # (T,), (T, dim) x 2
    return next_click_loss(interest, model.next_category(hidden), target, target, items, config)


def _next_click_recall(model: InterestModel, data: ClickData, k: int) -> dict[str, float]:
    """Of held-out users' clicks from the second on, by the model and by the mean of the clicks before."""
    cuts = {int(user): np.arange(1, len(data.histories[user])) for user in np.flatnonzero(data.held_out)}
    pooled = {user: mean_pooled(data, user, of_user) for user, of_user in cuts.items()}
    return {
        "recall_interest": recall_of(expected(model, data, cuts), cuts, data, k),
        "recall_mean_pooled": recall_of(pooled, cuts, data, k),
    }
