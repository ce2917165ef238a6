"""A tiny lake whose users click inside groups of items, and a fake encoder that knows nothing of the groups."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import torch

from akt_spark.conf_file import load
from akt_spark.config import Config
from akt_spark.lake import Lake
from akt_spark.stage import Context
from content.fakes import FakeSpec

GROUPS, PER_GROUP, USERS, CLICKS = 5, 8, 60, 6
DS = date(2024, 1, 31)
TRAIN_END = date(2024, 1, 25)  # 5 test days, 1 validation day
Click = tuple[str, str, datetime]


def item_id(group: int, number: int) -> str:
    return f"g{group}n{number}"


def clicks_in_groups(seed: int = 1, shuffled: bool = False) -> list[Click]:
    """Every user clicks distinct items of one group, an hour apart; shuffled: of any group."""
    rng = np.random.default_rng(seed)
    everything = [item_id(g, n) for g in range(GROUPS) for n in range(PER_GROUP)]
    clicks = []
    for user in range(USERS):
        group = [item_id(user % GROUPS, n) for n in range(PER_GROUP)]
        chosen = rng.choice(everything if shuffled else group, CLICKS, replace=False)
        start = datetime(2024, 1, 2) + timedelta(days=int(rng.integers(20)))
        clicks += [(f"u{user:02d}", str(item), start + timedelta(hours=h)) for h, item in enumerate(chosen)]
    return clicks


def write_events(lake: Lake, clicks: Iterable[Click]) -> None:
    rows = [(f"{user}-{item}-{at:%m%d%H}", user, item, "click", at, None, None, at.date()) for user, item, at in clicks]
    lake.overwrite("bronze.events", lake.spark.createDataFrame(rows, lake.schema("bronze.events")))


def write_items(lake: Lake, titles: dict[str, str]) -> None:
    rows = [
        (item, title, None, [f"kind {item[:2]}"], None, None, None, None, None, f"hash of {title}")
        for item, title in titles.items()
    ]
    lake.overwrite("bronze.items", lake.spark.createDataFrame(rows, lake.schema("bronze.items")))


def write_users(lake: Lake, profiles: dict[str, dict[str, str]]) -> None:
    lake.overwrite("bronze.users", lake.spark.createDataFrame(list(profiles.items()), lake.schema("bronze.users")))


def write_shop(lake: Lake) -> None:
    """Items, clicks in groups, and users: u00 ... with clicks, `profile_only` and `nobody` without."""
    write_items(lake, {item_id(g, n): f"thing {g}{n}" for g in range(GROUPS) for n in range(PER_GROUP)})
    write_events(lake, clicks_in_groups())
    people = {f"u{user:02d}": {"age": str(20 + user % GROUPS)} for user in range(USERS)}
    write_users(lake, people | {"profile_only": {"age": "21"}, "nobody": {}})


def small_config(root: str, *overrides: str) -> Config:
    """Models that train in a second."""
    small = [
        f"lake.root={root}",
        "encoder.rows_per_task=8",
        "alignment.dim=16",
        "alignment.hidden=64",
        "alignment.batch_size=64",
        "alignment.epochs=15",
        "alignment.learning_rate=0.003",
        "alignment.recall_at=7",
        "alignment.min_held_out=10",
        "interest.history=4",
        "interest.epochs=2",
        "interest.batch_size=16",
        "interest.heads=2",
        "interest.min_variance_ratio=0.05",
    ]
    return load(None, [*small, *overrides])


@pytest.fixture(autouse=True, scope="session")
def one_torch_thread() -> None:
    """The models here are tiny: more threads would only wait for each other."""
    torch.set_num_threads(1)


@pytest.fixture
def spec(tmp_path: Path) -> FakeSpec:
    # a revision of its own: workers, and the models they keep, live on from test to test
    return FakeSpec(str(tmp_path), revision=f"fake-{tmp_path.name}")


@pytest.fixture
def configured(context: Context) -> Callable[..., Context]:
    """The context with small models, and the given overrides."""

    def make(*overrides: str, ds: date = DS) -> Context:
        return replace(context, config=small_config(context.lake.root, *overrides), ds=ds)

    return make
