"""What the pipeline needs from a quantiser; a kind implements it (`residual`), `kinds` finds it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from akt_spark.config import QuantizerConfig
from akt_spark.semantic.arithmetic import Floats

Labels = NDArray[np.object_]  # text or None a row: what a control reads instead of the vector


@dataclass(frozen=True)
class Codes:
    """Semantic IDs of N vectors.

    Attributes:
        codes: (N, L), one code a level, each from 0.
        distance: (N,), squared distance of the latent to its quantised latent.
        margin: (N,), 1 - d1 / d2 of the squared distances to the nearest and the second nearest code of level 1: 0 on
            the border of two clusters, 1 at the code. It has no unit, so codebooks can be compared. 1 where no distance
            decides.
    """

    codes: NDArray[np.int32]
    distance: Floats
    margin: Floats


@dataclass(frozen=True)
class FitReport:
    """What a fit did, measured on the vectors it was fitted on.

    Attributes:
        rows: vectors it saw.
        unexplained_variance: share of the variance of the normalised vectors that the codes do not explain.
        coverage: used share of the codes, one a level.
        resets: dead codes that were re-seeded during training.
    """

    rows: int
    unexplained_variance: float
    coverage: tuple[float, ...]
    resets: int

    def metrics(self) -> dict[str, float]:
        """The report as it stands in ``semantic.codebooks``."""
        levels = {f"coverage_{level}": share for level, share in enumerate(self.coverage, start=1)}
        counts = {"rows": float(self.rows), "resets": float(self.resets)}
        return counts | {"unexplained_variance": self.unexplained_variance} | levels


class Quantizer(Protocol):
    """Vectors to codes. ``encode`` gives a row the same bits in any batch, on any thread, before and after ``save``."""

    def __init__(self, config: QuantizerConfig) -> None: ...

    @property
    def sizes(self) -> tuple[int, ...]:
        """Codes a level of the fitted model."""
        ...

    @property
    def digest(self) -> str:
        """Hash of the fitted model."""
        ...

    def fit(self, x: Floats, labels: Labels | None = None) -> FitReport:
        """Fits on vectors (N, D) and labels (N,); the same ones in the same order give the same model."""
        ...

    def encode(self, x: Floats, labels: Labels | None = None) -> Codes:
        """Codes of vectors (N, D) and labels (N,); only `controls` read labels."""
        ...

    def last_distances(self, x: Floats) -> Floats:
        """Squared distances (N, K) of vectors (N, D) to the last codes, after the nearest ones before them."""
        ...

    def normalise(self, x: Floats) -> Floats:
        """Vectors (N, D) as the model compares them with its reconstructions."""
        ...

    def decode(self, codes: NDArray[np.int32]) -> Floats:
        """Reconstructions (N, D) of codes (N, L), or of the first of them, in the space of ``normalise``."""
        ...

    def relabelled(self, names: Sequence[NDArray[np.int32]]) -> Self:
        """The same model, in which code k of level l is called ``names[l][k]``; nothing else changes."""
        ...

    def save(self, path: Path) -> None:
        """Writes the model into a folder; a reader sees the whole model or none."""
        ...

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads what ``save`` wrote."""
        ...
