"""What a worker and the process of its encoder say to each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from akt_spark.content.encoding import Part, Rows


@dataclass(frozen=True)
class Load:
    """First message of a worker. ``spec`` is pickled: the worker itself never imports torch."""

    spec: bytes
    device: str


@dataclass(frozen=True)
class Encode:
    """A request; answered by `Begun` and `Part` for its batches, and by `Finished`."""

    rows: Rows
    batch_size: int
    batch_tokens: int


@dataclass(frozen=True)
class Finished:
    """The encoder is loaded, or all rows of a request are answered."""


@dataclass(frozen=True)
class Refused:
    """The encoder could not be loaded."""

    reason: str


@dataclass(frozen=True)
class Begun:
    """These rows of the request are looked at from now on."""

    rows: np.ndarray


Answer = Finished | Refused | Begun | Part
