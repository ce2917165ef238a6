"""What a sample must hold, computed from the events one sample at a time: slow, plain Python, no Spark."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property
from math import log1p
from typing import Protocol

from akt_spark.config import Config

FIRST, LAST = float("-inf"), float("inf")


class Event(Protocol):
    """One event of the click log."""

    event_id: str
    user_id: str
    item_id: str
    event_type: str
    event_time: datetime
    event_order: int | None


@dataclass(frozen=True)
class Oracle:
    """The log up to ``ds``, the dense indices and the configuration.

    Attributes:
        first_seen: days of the catalogue, for the items that have one.
    """

    events: list[Event]
    item_idx: dict[str, int]
    user_idx: dict[str, int]
    config: Config
    ds: date
    first_seen: dict[str, date]

    def row(self, event: Event, item: str, label: float) -> dict:
        """The row of ``training.samples`` for ``item`` in the place of ``event``, without its id."""
        day, length = event.event_time.date(), self.config.features.sequence_length
        history = self.history(event)[:length]
        return {
            "split": self.split(day),
            "day": day,
            "label": label,
            "user_idx": self.user_idx[event.user_id],
            "item_idx": self.item_idx[item],
            "history_length": len(history),
            "history": history + [0] * (length - len(history)),
            "user_activity": self.activity([e for e in self.events if e.user_id == event.user_id], day),
            "item_activity": self.activity([e for e in self.events if e.item_id == item], day),
        }

    def split(self, day: date) -> str:
        test, validation = self.config.split.test_days, self.config.split.validation_days
        until_ds = (self.ds - day).days
        return "test" if until_ds < test else "validation" if until_ds < test + validation else "train"

    def label(self, impression: Event) -> float:
        """1.0 when a click in time belongs to the impression: no later impression of the pair precedes that click."""
        return float(impression.event_id in self._clicked)

    @cached_property
    def _clicked(self) -> set[str]:
        pairs = defaultdict(list)
        for event in self.events:
            pairs[event.user_id, event.item_id].append(event)
        clicked = set()
        for pair in pairs.values():
            impressions = [e for e in pair if e.event_type == "impression"]
            for click in (e for e in pair if e.event_type == "click"):
                before = [shown for shown in impressions if self._shown_before(shown, click)]
                if not before:
                    continue
                shown = max(before, key=lambda e: (e.event_time, _or(e.event_order, FIRST), e.event_id))
                minutes = (click.event_time - shown.event_time).total_seconds() / 60
                if minutes <= self.config.features.click_window_minutes:
                    clicked.add(shown.event_id)
        return clicked

    def _shown_before(self, shown: Event, click: Event) -> bool:
        if shown.event_time != click.event_time:
            return shown.event_time < click.event_time
        return _or(shown.event_order, FIRST) <= _or(click.event_order, LAST)

    def history(self, sample: Event) -> list[int]:
        """Dense items of the user's events strictly before the sample, newest first."""
        before = [e for e in self.events if e.user_id == sample.user_id and _strictly_before(e, sample)]
        wanted = [e for e in before if e.event_type in self.config.features.history_events]
        wanted.sort(key=lambda e: (e.event_time, _or(e.event_order, LAST), e.event_id), reverse=True)
        return [self.item_idx[e.item_id] for e in wanted]

    def activity(self, events: list[Event], day: date) -> list[float]:
        """The activity vector from days strictly before ``day``."""
        days = [e.event_time.date() for e in events if e.event_time.date() < day]
        kinds = [e.event_type for e in events if e.event_time.date() < day]
        prior, weight = self.config.features.ctr_prior, self.config.features.ctr_prior_weight
        clicks, impressions = kinds.count("click"), kinds.count("impression")
        return [
            log1p(clicks),
            log1p(impressions),
            log1p(kinds.count("cart") + kinds.count("purchase")),
            (clicks + prior * weight) / (impressions + weight),
            log1p((day - min(days)).days if days else 0),
        ]

    def weights(self, day: date, popularity: bool) -> dict[str, float]:
        """Weight of every item that may be drawn on a day, from what was known strictly before it."""
        earlier = [e for e in self.events if e.event_time.date() < day]
        if popularity:
            counts = defaultdict(int)
            for event in earlier:
                counts[event.item_id] += event.event_type in self.config.samples.positive_events
            return {item: count**0.75 for item, count in counts.items() if count}
        in_catalogue = {item for item, seen in self.first_seen.items() if seen < day}
        return dict.fromkeys(in_catalogue | {event.item_id for event in earlier}, 1.0)


def differences(found: dict, expected: dict) -> list[str]:
    """Columns in which two rows differ; vectors may by the rounding to 32 bits."""

    def same(a: object, b: object) -> bool:
        if isinstance(b, list):
            return len(a) == len(b) and all(abs(x - y) < 1e-6 * max(1, abs(y)) for x, y in zip(a, b, strict=True))
        return a == b

    return [name for name, value in expected.items() if not same(found[name], value)]


def _strictly_before(event: Event, sample: Event) -> bool:
    if event.event_time != sample.event_time:
        return event.event_time < sample.event_time
    return None not in (event.event_order, sample.event_order) and event.event_order < sample.event_order


def _or(order: int | None, otherwise: float) -> float:
    return otherwise if order is None else order
