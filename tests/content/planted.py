"""Users whose next click follows from the last one, as data of the user models."""

from __future__ import annotations

import numpy as np

from akt_spark.config import InterestConfig, InterestPromptConfig
from akt_spark.content.next_click import ClickData
from akt_spark.content.prompt_data import PromptData

DIM, GROUPS, ITEMS, USERS = 16, 5, 60, 120
WORDS = ("red", "shoe", "story", "help", "Title")
NOW = 40


def unit(*shape: int, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def click_data() -> ClickData:
    """A click on an item of one group is followed by one of the next group: the mean of the past misleads."""
    rng = np.random.default_rng(1)
    centres = unit(GROUPS, DIM)
    vectors = centres[np.arange(ITEMS) % GROUPS] + 0.2 * rng.normal(size=(ITEMS, DIM)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    starts = rng.integers(GROUPS, size=USERS)
    groups = (starts[:, None] + np.arange(6)) % GROUPS
    histories = list(rng.integers(ITEMS // GROUPS, size=groups.shape) * GROUPS + groups)
    return ClickData(
        vectors=vectors.astype(np.float32),
        category=np.arange(ITEMS) % GROUPS,
        categories=GROUPS,
        histories=histories,
        profiles=[[int(start) + 1] for start in starts],
        held_out=np.arange(USERS) % 5 == 0,
    )


def prompt_data(period: int | None = None) -> PromptData:
    """The same clicks, one a day; the profile's word tells the group of the first one."""
    clicks = click_data()
    days = [30 + np.arange(len(history)) for history in clicks.histories]
    return PromptData(
        clicks=clicks,
        labels=[f"{WORDS[item % GROUPS]} > thing {item}" for item in range(ITEMS)],
        days=days,
        profiles=[f"likes {WORDS[buckets[0] - 1]}" for buckets in clicks.profiles],
        activity=[np.stack([day, np.ones_like(day), np.zeros_like(day)], axis=1) for day in days],
        now=NOW,
        period=period,
    )


def prompt_config(prompt: dict[str, object] | None = None, **changes: object) -> InterestConfig:
    """A prompt model that trains in seconds."""
    small = {"titles": False, "max_tokens": 256, "rank": 4, "dropout": 0.0, "learning_rate": 0.01, "epochs": 25}
    values = {
        "model": "prompt",
        "batch_size": 32,
        "learning_rate": 0.01,
        "epochs": 2,
        "heads": 2,
        "prompt": InterestPromptConfig(**small | (prompt or {})),
    }
    return InterestConfig(**values | changes)
