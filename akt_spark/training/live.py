"""What is told of a training while it runs."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from akt_spark.training.loop import Point, Trainer
from akt_spark.training.pace import Pace
from akt_spark.training.plan import Plan, Training
from akt_spark.training.progress import say
from akt_spark.training.tensorboard_log import TensorBoard

Step = TypeVar("Step")
LOSSES = ("loss", "pretraining_loss")  # of a phase each


class Live:
    """Rank 0 says a line every ``training.progress_seconds``: where it is, the loss, the speed, what is left.

    With ``training.tensorboard`` it adds to the curves there as often. It only looks at what the trainer keeps anyway,
    so that nothing is exchanged for it.

    Attributes:
        pace: of the running epoch.
    """

    def __init__(self, trainer: Trainer, training: Training, plan: Plan) -> None:
        self.pace = Pace()
        self._trainer, self._training, self._plan = trainer, training, plan
        self._speaks, folder = trainer.communicator.rank == 0, plan.settings.tensorboard
        self._board = TensorBoard(folder, Path(training.folder)) if folder and self._speaks else None
        self._shown = 0
        self._start_line()

    def epoch(self, steps: Iterable[Step], number: int) -> Iterator[Step]:
        """The steps of an epoch, or of the rest of it, timed and told of."""
        self.pace, self._number = Pace(), number
        self._start_line()
        return self.pace.timed(steps, self._look if self._speaks else lambda: None)

    def show(self, timings: Sequence[Point]) -> None:
        """Adds to TensorBoard what the curves have gained, and these points."""
        if self._board is not None:
            self._board.add([*self._trainer.curve[self._shown :], *timings])
            self._shown = len(self._trainer.curve)

    def _look(self) -> None:
        if time.monotonic() - self._said_at >= self._plan.settings.progress_seconds:
            say(self._plan.log, self._line())
            self.show(())
            self._start_line()

    def _start_line(self) -> None:
        """A line is about what has come since the one before it."""
        self._said_at, self._said, self._points = time.monotonic(), self.pace.copy(), len(self._trainer.curve)

    def _line(self) -> str:
        settings, step, steps = self._plan.settings, self._trainer.step, self._plan.steps_of(self._training)
        epochs, recent = self._training.epochs(settings), self.pace.since(self._said)
        losses = [value for _, name, value in self._trainer.curve[self._points :] if name in LOSSES]
        loss = f"loss {sum(losses) / len(losses):.4f}, " if losses else ""
        speed = recent.steps * settings.batch_size * settings.shares / recent.seconds
        left = (epochs * steps - step) * self.pace.seconds / self.pace.steps
        return (
            f"{self._training.name}, epoch {self._number}/{epochs}, "
            f"step {step - (self._number - 1) * steps:,}/{steps:,}: {loss}{speed:,.0f} samples/s, "
            f"reader wait {recent.reader_wait:.1%}, {timedelta(seconds=round(left))} left"
        )
