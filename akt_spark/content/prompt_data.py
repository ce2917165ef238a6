"""Prompts of sampled users as of any of their clicks: what was known before it, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from akt_spark.content.next_click import ClickData
from akt_spark.content.user_prompt import UserPrompt


@dataclass(frozen=True)
class PromptData:
    """What prompts tell, beside the clicks.

    Attributes:
        clicks: U users, N items.
        labels: (N,) category and title of an item.
        days: one array a user: the day of each click, ascending.
        profiles: (U,) attributes in words.
        activity: one (A, 3) array a user: day, clicks and buys of each active day.
        now: the day after the last one that may be known.
        period: days before a moment whose clicks a prompt tells; None: all.
    """

    clicks: ClickData
    labels: list[str]
    days: list[np.ndarray]
    profiles: list[str]
    activity: list[np.ndarray]
    now: int
    period: int | None

    def prompt(self, user: int, cut: int | None = None) -> UserPrompt:
        """The user before a click of the history, with the activity of earlier days; None: as of ``now``."""
        today = self.now if cut is None else int(self.days[user][cut])
        first = self._first(today)
        history = self.clicks.histories[user][:cut]
        read = history[self.days[user][:cut] >= first]
        days = self.activity[user]
        known = days[(days[:, 0] >= first) & (days[:, 0] < today)]
        counts = [len(known), int(known[:, 1].sum()), int(known[:, 2].sum())]
        return UserPrompt(
            profile=self.profiles[user],
            labels=[self.labels[item] for item in read],
            vectors=self.clicks.vectors[read],
            activity=[count.bit_length() for count in counts],
        )

    def readable(self, user: int) -> np.ndarray:
        """The clicks before which there is something to read: a profile, or a click in the period."""
        days = self.days[user]
        recent = np.array([False, *(days[:-1] >= self._first(days[1:]))])
        return np.flatnonzero(recent | bool(self.profiles[user]))

    def known(self, user: int) -> bool:
        """Whether there is something to read now."""
        return bool(self.profiles[user]) or self.days[user][-1] >= self._first(self.now)

    def _first(self, today: int | np.ndarray) -> int | np.ndarray:
        return 0 if self.period is None else today - self.period
