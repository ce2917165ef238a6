"""What a language model reads about a user (method.md 3): words, and one token for every clicked item's vector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from akt_spark.config import InterestConfig, fingerprint
from akt_spark.content.encoders.language import Language
from akt_spark.errors import ConfigError

ITEM, INTEREST = -1, -2  # in place of a token id: an item's vector, and the token whose state is the interest
WIDEST = (30, 30, 30)  # levels of more activity than anybody has


@dataclass(frozen=True)
class UserPrompt:
    """A user as of some moment.

    Attributes:
        profile: attributes in words; empty for none.
        labels: category and title of clicked items, oldest first.
        vectors: (H, dim) float32, their aligned vectors.
        activity: levels (see `band`) of active days, clicks and buys.
    """

    profile: str
    labels: Sequence[str]
    vectors: np.ndarray
    activity: Sequence[int]


@dataclass(frozen=True)
class ReadPrompt:
    """Token ids with ITEM and INTEREST among them, the (h, dim) vectors of the items, and whether any were left out."""

    ids: list[int]
    vectors: np.ndarray
    truncated: bool


class PromptReader:
    """Turns prompts into tokens; where there is no room the oldest clicks are left out, never the interest token."""

    def __init__(self, language: Language, config: InterestConfig) -> None:
        """Raises: ConfigError: when ``interest.prompt.max_tokens`` is too few, or more than the model can read."""
        self.language, self.days, self.config = language, config.days, config.prompt
        limit, fixed = config.prompt.max_tokens, sum(map(len, self._frame(WIDEST)))
        smallest = fixed + 2 * self._longest_item
        if not smallest <= limit <= language.longest:
            raise ConfigError(
                f"interest.prompt.max_tokens is {limit}: the words that every prompt has and a click take {smallest} "
                f"tokens, and the language model reads {language.longest} at most; set it in between, or shorten "
                f"interest.prompt.title_tokens ({config.prompt.title_tokens})"
            )

    def read(self, prompts: Sequence[UserPrompt]) -> list[ReadPrompt]:
        """Tokens of B prompts."""
        counts = np.cumsum([0] + [len(prompt.labels) for prompt in prompts])
        if self.config.titles:
            labels = self.language.words([f" {label}" for prompt in prompts for label in prompt.labels])
        else:
            labels = [[]] * int(counts[-1])
        profiles = self.language.words([f" {prompt.profile or 'unknown'}" for prompt in prompts])
        return [
            self._read(prompt, profile, labels[start:end])
            for prompt, profile, start, end in zip(prompts, profiles, counts, counts[1:], strict=False)
        ]

    def _read(self, prompt: UserPrompt, profile: list[int], labels: list[list[int]]) -> ReadPrompt:
        before, between, behind = self._frame(prompt.activity)
        room = self.config.max_tokens - len(before) - len(between) - len(behind)
        told = profile[: room // 2]
        items = [[*label[: self.config.title_tokens], ITEM] for label in labels]
        sizes = np.cumsum([len(item) for item in reversed(items)])  # of the newest, the newest two, ...
        kept = int((sizes <= room - len(told)).sum())
        first = len(items) - kept
        return ReadPrompt(
            ids=[*before, *told, *between, *chain.from_iterable(items[first:]), *behind],
            vectors=prompt.vectors[first:],
            truncated=first > 0 or len(told) < len(profile),
        )

    def _frame(self, activity: Sequence[int]) -> tuple[list[int], list[int], list[int]]:
        """Tokens before the profile, between it and the clicks, and behind these."""
        words = self.language.words(frame(self.days, activity))
        return [*self.language.opening, *words[0]], words[1], [*words[2], INTEREST, *self.language.closing]

    @property
    def _longest_item(self) -> int:
        return 1 + self.config.titles * self.config.title_tokens


def frame(days: int | None, activity: Sequence[int]) -> tuple[str, str, str]:
    """The words that every prompt has: before the profile, between it and the clicks, and behind these."""
    period = f"Last {days} days" if days else "Clicks"
    active, clicks, buys = map(band, activity)
    return (
        "Profile:",
        f" | {period}, oldest to newest:",
        f" | Active days {active}, clicks {clicks}, buys {buys} | Next interest:",
    )


def band(level: int) -> str:
    """A count in words, of its level: the bits it takes, so that 4 to 7 are level 3. Few nights change it."""
    low, high = 2**level // 2, 2**level - 1
    return str(high) if high <= 1 else f"{low} to {high}"


def template_fingerprint() -> str:
    """Changes whenever the words around what is known of a user do."""
    return fingerprint(frame(30, (0, 1, 2)), frame(None, (3, 4, 9)), ITEM, INTEREST)
