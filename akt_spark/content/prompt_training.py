"""Training of the prompt user model, in one process (method.md 3)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from akt_spark.config import EncoderConfig, InterestConfig, fingerprint
from akt_spark.content import gradient_cache
from akt_spark.content.alignment import GRADIENT_NORM, warmup_cosine
from akt_spark.content.encoders import EncoderSpec
from akt_spark.content.interest_training import expected, train_interest
from akt_spark.content.next_click import Earlier, Items, mean_pooled, next_click_loss, recall_of, variance_ratio
from akt_spark.content.prompt_data import PromptData
from akt_spark.content.prompt_interest import PromptInterest
from akt_spark.content.resources import task_device
from akt_spark.errors import DataError

MEASURED = 2000  # prompts behind a measure at most
CUTS = 5  # of a held-out user


def train_prompt(
    data: PromptData, base: EncoderSpec, config: InterestConfig, encoding: EncoderConfig, recall_k: int
) -> tuple[PromptInterest, dict[str, float]]:
    """Trains on the users that are not held out, and beside it the transformer that it should be better than.

    Returns:
        The model, and the measures of `train_interest`; also of the transformer on the same users and clicks, under
        names that end with ``_transformer``. Recall is of a sample of those clicks of held-out users, from the second
        on, before which a prompt has something to tell; the users that an epoch was chosen by are left out. Seconds are
        those of training.

    Raises:
        DataError: without a user to train on, or when the loss is no number.
    """
    clicks = data.clicks
    training = np.flatnonzero(~clicks.held_out)
    cuts = {int(user): data.readable(user) for user in training}
    training = np.array([user for user in training if len(cuts[user])], dtype=np.int64)
    choosing, judged = judged_clicks(data, config.seed)
    if not len(training) or not choosing or not judged:
        raise DataError(
            f"the prompt user model has {len(training)} users to train on and {len(choosing) + len(judged)} held out "
            "of whom there is something to tell before a click: a profile, or a click in the interest.days "
            f"({config.days}) before; it needs one to train on and two held out: raise interest.days, or set it to null"
        )
    started = time.monotonic()
    model = PromptInterest(
        base, task_device(encoding.device), config, clicks.vectors.shape[1], max(clicks.categories, 1), config.seed
    )
    _start(model, data, cuts, config.seed, encoding)
    model.adapt()

    def recall(of_clicks: dict[int, np.ndarray]) -> float:
        return recall_of(_expected(model, data, of_clicks, encoding), of_clicks, clicks, recall_k)

    epoch = _fit(model, data, training, cuts, lambda: recall(choosing))
    seconds, started = time.monotonic() - started, time.monotonic()
    transformer, baseline = train_interest(clicks, config, recall_k, choosing)
    users = _sample(np.array([u for u in range(len(clicks.histories)) if data.known(u)]), config.seed)
    vectors = model.encode([data.prompt(user) for user in users], encoding.batch_size, encoding.batch_tokens)
    measures = {
        "variance_ratio": variance_ratio(vectors, clicks.vectors) if len(users) else 0.0,
        "variance_ratio_transformer": baseline["variance_ratio"],
        "recall_interest": recall(judged),
        "recall_mean_pooled": recall_of(
            {u: mean_pooled(clicks, u, c) for u, c in judged.items()}, judged, clicks, recall_k
        ),
        "recall_transformer": recall_of(expected(transformer, clicks, judged), judged, clicks, recall_k),
    }
    return model, measures | {
        "users": float(len(training)),
        "held_out_users": float(len(judged)),
        "held_out_clicks": float(sum(map(len, judged.values()))),
        "epoch": float(epoch),
        "seconds": seconds,
        "seconds_transformer": time.monotonic() - started,
    }


def judged_clicks(data: PromptData, seed: int) -> tuple[dict[int, np.ndarray], dict[int, np.ndarray]]:
    """At most CUTS clicks of a held-out user, from the second on, before which there is something to read.

    Returns:
        Those of some users, to choose an epoch by; those of the others, to judge by.
    """
    random, judged = np.random.default_rng((seed, 1)), {}
    for user in _sample(np.flatnonzero(data.clicks.held_out), seed, MEASURED // CUTS):
        cuts = data.readable(user)
        cuts = cuts[cuts > 0]
        if len(cuts):
            judged[int(user)] = np.sort(random.choice(cuts, min(CUTS, len(cuts)), replace=False))
    users = random.permutation(list(judged)).tolist()
    choosing = set(users[: len(users) // 2])
    return {u: c for u, c in judged.items() if u in choosing}, {u: c for u, c in judged.items() if u not in choosing}


def _start(
    model: PromptInterest, data: PromptData, cuts: dict[int, np.ndarray], seed: int, encoding: EncoderConfig
) -> None:
    """The regression that training starts from, over clicks of training users."""
    every = np.array([(user, cut) for user, of_user in cuts.items() for cut in of_user])
    chosen = every[np.sort(np.random.default_rng((seed, 4)).permutation(len(every))[:MEASURED])]
    prompts = [data.prompt(int(user), int(cut)) for user, cut in chosen]
    targets = data.clicks.vectors[[data.clicks.histories[user][cut] for user, cut in chosen]]
    place = model.language.device
    model.start_from(prompts, torch.from_numpy(targets).to(place), encoding.batch_size, encoding.batch_tokens)


def _fit(
    model: PromptInterest,
    data: PromptData,
    users: np.ndarray,
    cuts: dict[int, np.ndarray],
    recall: Callable[[], float],
) -> int:
    """All epochs, each of which predicts one click of every user, drawn anew; keeps and returns the best by recall.

    That may be none of them, 0: the regression that training starts from.
    """
    config = model.config
    adapted = [weight for weight in model.lora.parameters() if weight.requires_grad]
    own = [weight for name, weight in model.named_parameters() if not name.startswith("lora.")]
    rates = [config.learning_rate, config.prompt.learning_rate]
    groups = [{"params": own, "lr": rates[0]}, {"params": adapted, "lr": rates[1]}]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.01)
    items = Items.of(data.clicks, users, model.language.device)
    size, epochs = min(config.batch_size, len(users)), config.prompt.epochs
    steps = len(users) // size  # a short last batch would have other negatives
    best_epoch, best_recall, best = 0, recall(), _weights(model)
    print(f"interest prompt, regression: recall {best_recall:.3f}", flush=True)
    for epoch in range(1, epochs + 1):
        random, losses, started = np.random.default_rng((config.seed, 2, epoch)), [], time.monotonic()
        order = random.permutation(users)
        for step in range(steps):
            batch = order[step * size : (step + 1) * size]
            chosen = [int(random.choice(cuts[user])) for user in batch]
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * warmup_cosine((epoch - 1) * steps + step, epochs * steps, config.prompt.warmup)
            torch.manual_seed(int(fingerprint(config.seed, epoch, step), 16) % 2**63)  # dropout
            optimizer.zero_grad()
            losses.append(_backward(model, data, items, batch, chosen))
            torch.nn.utils.clip_grad_norm_([*own, *adapted], GRADIENT_NORM)
            optimizer.step()
        speed, reached = len(losses) * size / (time.monotonic() - started), recall()
        print(
            f"interest prompt, epoch {epoch}: loss {np.mean(losses):.3f}, {speed:,.1f} prompts/s, recall {reached:.3f}",
            flush=True,
        )
        if reached > best_recall:
            best_epoch, best_recall, best = epoch, reached, _weights(model)
    with torch.no_grad():
        for name, weight in model.trained().items():
            weight.copy_(best[name])
    return best_epoch


def _weights(model: PromptInterest) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in model.trained().items()}


def _backward(model: PromptInterest, data: PromptData, items: Items, users: np.ndarray, cuts: list[int]) -> float:
    """Gradients of one batch, ``micro_batch`` prompts at a time; the candidates are all clicks of its users."""
    model.train()
    config, device = model.config, model.language.device
    read = model.reader.read([data.prompt(user, cut) for user, cut in zip(users, cuts, strict=True)])
    histories = [data.clicks.histories[user] for user in users]
    target = torch.tensor([history[cut] for history, cut in zip(histories, cuts, strict=True)], device=device)
    drawn = torch.from_numpy(np.concatenate(histories)).to(device)
    past = torch.from_numpy(np.concatenate([history[:cut] for history, cut in zip(histories, cuts, strict=True)]))
    earlier = Earlier(torch.arange(len(cuts)).repeat_interleave(torch.tensor(cuts)).to(device), past.to(device))

    def outputs(places: np.ndarray) -> Tensor:
        return torch.cat(model([read[place] for place in places]), dim=1)  # (b, dim + width)

    def loss(of_batch: Tensor) -> Tensor:
        interest, state = of_batch.split([model.dim, model.language.width], dim=1)
        return next_click_loss(interest, model.next_category(state), target, drawn, earlier, items, config)

    by_length = np.argsort([len(prompt.ids) for prompt in read], kind="stable")
    parts = np.split(by_length, range(config.prompt.micro_batch, len(by_length), config.prompt.micro_batch))
    value = gradient_cache.backward(outputs, parts, loss)
    if not math.isfinite(value):
        raise DataError(
            f"the training of the prompt user model diverged, its loss is {value}: lower interest.learning_rate "
            f"({config.learning_rate:g}) or interest.prompt.learning_rate ({config.prompt.learning_rate:g})"
        )
    return value


def _expected(
    model: PromptInterest, data: PromptData, cuts: dict[int, np.ndarray], encoding: EncoderConfig
) -> dict[int, Tensor]:
    """(T, dim) interests of each user before the given clicks."""
    prompts = [data.prompt(user, int(cut)) for user, of_user in cuts.items() for cut in of_user]
    vectors = torch.from_numpy(model.encode(prompts, encoding.batch_size, encoding.batch_tokens))
    return dict(zip(cuts, vectors.split([len(of_user) for of_user in cuts.values()]), strict=True))


def _sample(users: np.ndarray, seed: int, limit: int = MEASURED) -> np.ndarray:
    return np.sort(np.random.default_rng((seed, 3)).permutation(users)[:limit])
