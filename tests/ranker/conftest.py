"""Small random entities and batches for tests of the ranker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from akt_spark.config import ModelConfig
from akt_spark.ranker.akt_rec import Ranker
from akt_spark.ranker.lookup import NONE, STUDENT, TEACHER, EntityLookup

BASE = {
    "cluster_mode": "none",
    "transfer": False,
    "orthogonality": 0.0,
    "aggregation": False,
    "content": [],
    "hard_search": "category",
}


def make_lookup(
    rows: int, levels: list[int], seed: int, attributes: int = 2, without_code: float = 0.1
) -> EntityLookup:
    """Random ids; about a third each are teachers, students and neither, and some have no code."""
    generator = torch.Generator().manual_seed(seed)

    def integers(high: int, *shape: int) -> Tensor:
        return torch.randint(0, high, shape, generator=generator)

    impressions = torch.tensor([0, 3, 50, 400])[integers(4, rows)]
    role = torch.full((rows,), NONE)
    role[impressions < 10] = STUDENT
    role[impressions >= 100] = TEACHER
    codes = torch.stack([integers(size, rows) for size in levels], 1)
    codes[torch.rand(rows, generator=generator) < without_code] = -1
    activity = torch.randn(rows, 5, generator=generator)
    activity[:, :3] = torch.stack([impressions // 4, impressions, impressions // 20], 1).float().log1p()
    vector = torch.nn.functional.normalize(torch.randn(rows, 8, generator=generator), dim=1)
    lookup = EntityLookup(integers(7, rows, attributes), integers(6, rows), codes, activity, impressions, role, vector)
    for tensor in (lookup.attributes, lookup.category, lookup.activity, lookup.impressions, lookup.role, lookup.vector):
        tensor[0] = 0
    lookup.codes[0] = -1
    return lookup


def make_batch(size: int, items: int, users: int, history: int, seed: int) -> dict[str, Tensor]:
    """Random samples; histories of all lengths, some empty."""
    generator = torch.Generator().manual_seed(seed)
    length = torch.randint(0, history + 1, (size,), generator=generator)
    entries = torch.randint(1, items, (size, history), generator=generator)
    return {
        "label": torch.randint(0, 2, (size,), generator=generator).float(),
        "user_idx": torch.randint(1, users, (size,), generator=generator),
        "item_idx": torch.randint(1, items, (size,), generator=generator),
        "history": entries * (torch.arange(history) < length[:, None]),
        "history_length": length,
        "user_activity": torch.randn(size, 5, generator=generator),
        "item_activity": torch.randn(size, 5, generator=generator),
    }


@pytest.fixture(autouse=True, scope="package")
def one_thread() -> Iterator[None]:
    """Small tensors gain nothing from threads, and on a busy machine threads wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(7)


@pytest.fixture
def items() -> EntityLookup:
    return make_lookup(120, [4, 3], seed=1)


@pytest.fixture
def users() -> EntityLookup:
    return make_lookup(60, [3, 2], seed=2, attributes=0)


@pytest.fixture
def batch() -> dict[str, Tensor]:
    return make_batch(64, 120, 60, 40, seed=3)


@pytest.fixture
def build(items: EntityLookup, users: EntityLookup) -> Callable[..., Ranker]:
    """Builds a ranker from overrides of ModelConfig; with ``warm=True`` its residuals are random, as after training."""

    def make(warm: bool = False, seed: int = 1, **overrides: Any) -> Ranker:
        model = Ranker(ModelConfig(**{"codes_of": ["item", "user"]} | overrides), items, users, seed)
        if warm:
            with torch.no_grad():
                generator = torch.Generator().manual_seed(5)
                for name, parameter in model.named_parameters():
                    if "own_rows" in name or ".gate.linear" in name or name.endswith("null"):
                        parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
                        if "own_rows" in name:
                            parameter[0] = 0.0
            model.refresh_snapshots()
        return model

    return make
