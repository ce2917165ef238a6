"""How long the steps of a training take, and how long of that they wait for their samples."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

Step = TypeVar("Step")


@dataclass
class Pace:
    """Wall time of steps on one rank.

    Attributes:
        steps: taken.
        seconds: from asking for the samples of each to its end.
        waited: seconds of these until the samples were there.
    """

    steps: int = 0
    seconds: float = 0.0
    waited: float = 0.0

    def timed(self, steps: Iterable[Step], after: Callable[[], None] = lambda: None) -> Iterator[Step]:
        """The same steps. ``after`` is called after every one, off the clock."""
        asked = time.monotonic()
        for step in steps:
            self.waited += time.monotonic() - asked
            yield step
            self.seconds += time.monotonic() - asked
            self.steps += 1
            after()
            asked = time.monotonic()
        rest = time.monotonic() - asked  # rows that fill no step are read and counted all the same
        self.waited += rest
        self.seconds += rest

    def since(self, earlier: Pace) -> Pace:
        """What has come since a copy was made."""
        return Pace(self.steps - earlier.steps, self.seconds - earlier.seconds, self.waited - earlier.waited)

    def copy(self) -> Pace:
        """It, as it is now."""
        return replace(self)

    @property
    def reader_wait(self) -> float:
        """Share of the time that was waited for samples; 0 before the first step."""
        return self.waited / self.seconds if self.seconds else 0.0
