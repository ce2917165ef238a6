"""Whether the model finds what was planted: clicks from clustered item vectors, with a long tail (method.md 10)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from akt_spark.config import ModelConfig
from akt_spark.ranker.akt_rec import Ranker
from akt_spark.ranker.lookup import NONE, STUDENT, TEACHER, EntityLookup
from ranker.conftest import BASE

ITEMS, USERS, CLUSTERS, HISTORY = 1_500, 400, 30, 20
TRAIN, TEST = 40_000, 20_000


@dataclass
class World:
    """Look-ups, and samples of the training and the test period."""

    items: EntityLookup
    users: EntityLookup
    train: dict[str, Tensor]
    test: dict[str, Tensor]


def make_world(seed: int) -> World:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    cluster = torch.randint(0, CLUSTERS, (ITEMS,), generator=generator)
    vectors = normal(CLUSTERS, 8)[cluster] + 0.5 * normal(ITEMS, 8)
    tastes = normal(USERS, 8)
    popularity = (1 / torch.arange(1, ITEMS).float() ** 1.2)[torch.randperm(ITEMS - 1, generator=generator)]

    def samples(count: int, weights: Tensor) -> dict[str, Tensor]:
        item = torch.multinomial(weights, count, True, generator=generator) + 1
        user = torch.randint(1, USERS, (count,), generator=generator)
        logit = 0.8 * (tastes[user] * vectors[item]).sum(1) - 1.0
        label = (torch.rand(count, generator=generator) < torch.sigmoid(logit)).float()
        return {"user_idx": user, "item_idx": item, "label": label}

    train = samples(TRAIN, popularity)
    # the test period shows the tail more often, so that it can be measured
    test = samples(TEST, popularity / popularity.sum() + 1 / ITEMS)
    history = torch.zeros(USERS, HISTORY, dtype=torch.int64)
    shown = torch.multinomial(popularity.expand(USERS, -1), 200, generator=generator) + 1  # (U, 200)
    affinity = torch.einsum("ud,und->un", tastes, vectors[shown])
    history[1:] = shown.gather(1, affinity.topk(HISTORY, 1).indices)[1:]
    lookups = []
    for rows, name, codes in ((ITEMS, "item_idx", cluster[:, None]), (USERS, "user_idx", torch.full((USERS, 1), -1))):
        impressions = torch.bincount(train[name], minlength=rows)
        role = torch.where(impressions < 10, STUDENT, torch.where(impressions >= 100, TEACHER, NONE))
        codes[0], role[0] = -1, NONE
        activity = torch.zeros(rows, 5)
        activity[:, 1] = impressions.float().log1p()
        lookup = EntityLookup(torch.zeros(rows, 0, dtype=torch.int64), torch.zeros(rows, dtype=torch.int64), codes,
                              activity, impressions, role, torch.zeros(rows, 4))  # fmt: skip
        lookups.append(lookup)
    for split in (train, test):
        split["history"] = history[split["user_idx"]]
        split["item_activity"] = lookups[0].activity[split["item_idx"]]
        split["user_activity"] = lookups[1].activity[split["user_idx"]]
    return World(*lookups, train, test)


def rows_of(samples: dict[str, Tensor], rows: Tensor) -> dict[str, Tensor]:
    return {name: value[rows] for name, value in samples.items()}


def train(world: World, seed: int = 1, epochs: int = 2, batch: int = 512, **overrides: Any) -> Ranker:
    """A plain loop: lazy Adam for ID tables, Adam for dense layers, plain SGD for the transfer."""
    config = ModelConfig(**overrides)
    model = Ranker(config, world.items, world.users, seed)
    optimisers = [
        torch.optim.SparseAdam(model.id_tables(), lr=6e-3),
        torch.optim.Adam(model.dense_parameters(), lr=3e-3),
    ]
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    for _ in range(epochs):
        for rows in torch.randperm(TRAIN, generator=torch.Generator().manual_seed(seed)).split(batch):
            samples = rows_of(world.train, rows)
            loss = F.binary_cross_entropy_with_logits(model(samples), samples["label"]) + model.regulariser(samples)
            for optimiser in optimisers:
                optimiser.zero_grad()
            loss.backward()
            for optimiser in optimisers:
                optimiser.step()
            for transfer in model.transfer_losses(generator, samples).values():
                tables = model.transfer_tables()
                for table, step in zip(tables, torch.autograd.grad(transfer, tables, allow_unused=True), strict=True):
                    if step is not None:
                        table.data.add_(step, alpha=-config.transfer_learning_rate)
        model.refresh_snapshots()
    return model.eval()


@torch.no_grad()
def auc(world: World, model: Ranker, low: int = 0, high: int = 10**9) -> float:
    """AUC on test samples of items with low <= training impressions < high."""
    impressions = world.items.impressions[world.test["item_idx"]]
    samples = rows_of(world.test, ((impressions >= low) & (impressions < high)).nonzero()[:, 0])
    scores = model(samples)
    rank = torch.empty_like(scores)
    rank[scores.argsort()] = torch.arange(1.0, len(scores) + 1)
    positives = samples["label"].sum().item()
    area = rank[samples["label"] == 1].double().sum().item() - positives * (positives + 1) / 2
    return area / (positives * (len(scores) - positives))


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(seed=0)


@pytest.fixture(scope="module")
def base(world: World) -> Ranker:
    return train(world, **BASE)


@pytest.fixture(scope="module")
def akt_rec(world: World) -> Ranker:
    return train(world)


TAIL, HEAD = (0, 10), (100,)
PER_ID = {**BASE, "cluster_mode": "per_id"}


def test_akt_rec_ranks_the_planted_tail_far_better_than_base_and_the_head_no_worse(world, base, akt_rec):
    assert auc(world, akt_rec, *TAIL) > auc(world, base, *TAIL) + 0.08
    assert auc(world, akt_rec, *HEAD) > auc(world, base, *HEAD) - 0.002


def test_shuffled_codes_lose_the_gain(world, base, akt_rec):
    shuffled = auc(world, train(world, codes="random"), *TAIL)
    assert shuffled < auc(world, akt_rec, *TAIL) - 0.08
    assert shuffled < auc(world, base, *TAIL) + 0.02


def test_a_shared_prefix_alone_helps_the_planted_tail(world, base):
    prefix_residual = train(world, **{**BASE, "cluster_mode": "hybrid"})
    assert auc(world, prefix_residual, *TAIL) > auc(world, base, *TAIL) + 0.02


def test_transfer_from_heads_helps_the_tail_of_ids_with_rows_of_their_own_and_leaves_the_head(world):
    without, transfer = train(world, **PER_ID), train(world, **PER_ID | {"transfer": True})
    assert auc(world, transfer, *TAIL) > auc(world, without, *TAIL) + 0.005
    assert auc(world, transfer, *HEAD) > auc(world, without, *HEAD) - 0.005


def test_training_twice_from_one_seed_gives_the_same_weights(world):
    first, second = (train(world, epochs=1, batch=8_000) for _ in range(2))
    assert all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )
