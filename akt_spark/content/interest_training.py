"""Training of the interest model, in one process (method.md 3)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from akt_spark.config import InterestConfig
from akt_spark.content.interest import InterestModel
from akt_spark.content.next_click import (
    ClickData,
    Earlier,
    Items,
    mean_pooled,
    next_click_loss,
    recall_of,
    variance_ratio,
)


def train_interest(
    data: ClickData, config: InterestConfig, recall_k: int, choosing: Mapping[int, np.ndarray] | None = None
) -> tuple[InterestModel, dict[str, float]]:
    """Trains on the users that are not held out; keeps the epoch that finds most next clicks of some who are.

    Args:
        data: clicks of all of them.
        config: model and training.
        recall_k: size of the neighbourhood in which a click counts as found.
        choosing: clicks that an epoch is chosen by, of held-out users; half of these users by default.

    Returns:
        The model; recall of the next click of the other held-out users, by the model and by the mean of their clicks;
        and the variance of the interests of all sampled users against that of items (collapse: near 0).
    """
    chosen_by, judged = held_out_clicks(data, config.seed)
    choosing = chosen_by if choosing is None else choosing
    torch.manual_seed(config.seed)  # initialisation and dropout
    rng = np.random.default_rng(config.seed)
    model = InterestModel.create(data.vectors.shape[1], max(data.categories, 1), config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=0.01)
    training = np.flatnonzero(~data.held_out)
    items = Items.of(data, training)
    best_epoch, best_recall, best = 0, -1.0, model.state_dict()
    for epoch in range(1, config.epochs + 1):
        model.train()
        losses = []
        for users in _batches(rng.permutation(training), config.batch_size):
            loss = _loss(model, items, data, users, config)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        reached = recall_of(expected(model, data, choosing), choosing, data, recall_k)
        print(f"interest epoch {epoch}: loss {np.mean(losses):.3f}, recall {reached:.3f}", flush=True)
        if reached >= best_recall:  # without anybody to choose by: the last one
            best_epoch, best_recall = epoch, reached
            best = {name: weight.detach().clone() for name, weight in model.state_dict().items()}
    model.load_state_dict(best)
    pooled = {user: mean_pooled(data, user, of_user) for user, of_user in judged.items()}
    return model, {
        "variance_ratio": variance_ratio(interests(model, data, config.batch_size), data.vectors),
        "recall_interest": recall_of(expected(model, data, judged), judged, data, recall_k),
        "recall_mean_pooled": recall_of(pooled, judged, data, recall_k),
        "users": float(len(training)),
        "held_out_users": float(len(judged)),
        "epoch": float(best_epoch),
    }


def held_out_clicks(data: ClickData, seed: int) -> tuple[dict[int, np.ndarray], dict[int, np.ndarray]]:
    """Clicks of held-out users from the second on: of half of these users, to choose by; of the others, to judge by."""
    users = np.random.default_rng((seed, 5)).permutation(np.flatnonzero(data.held_out))
    cuts = {int(user): np.arange(1, len(data.histories[user])) for user in users}
    half = len(users) // 2
    return {user: cuts[user] for user in users[:half].tolist()}, {user: cuts[user] for user in users[half:].tolist()}


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
    number = torch.full_like(history, -1)
    number[wanted] = torch.arange(len(target))
    before = torch.ones(history.shape[1], history.shape[1], dtype=torch.bool).tril(-1)
    user, later, click = torch.nonzero(wanted[:, :, None] & before, as_tuple=True)
    earlier = Earlier(number[user, later], history[user, click])
    return next_click_loss(interest, model.next_category(hidden), target, target, earlier, items, config)
