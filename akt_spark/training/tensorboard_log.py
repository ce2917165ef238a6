"""The curves of a training in TensorBoard, while it runs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from akt_spark.extras import require_extra
from akt_spark.training.loop import Point

KEY = "training.tensorboard"


class TensorBoard:
    """One training as a run of TensorBoard: ``<folder>/<run_id>/<variant>-seed<seed>-<hash>``."""

    def __init__(self, folder: str, training: Path) -> None:
        """Starts the run over: TensorBoard hides what a process that was killed has written of it.

        Args:
            folder: ``training.tensorboard``.
            training: the training's folder, which gives the run its name.

        Raises:
            ConfigError: when TensorBoard is not installed here.
        """
        require_extra("tensorboard", KEY)
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(Path(folder, training.parent.name, training.name)), purge_step=0)

    def add(self, points: Iterable[Point]) -> None:
        """Adds points of curves, and makes them visible."""
        for step, metric, value in points:
            self._writer.add_scalar(metric, value, step)
        self._writer.flush()

    def close(self) -> None:
        """Closes the file."""
        self._writer.close()
