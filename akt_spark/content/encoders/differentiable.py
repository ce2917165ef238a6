"""The forward pass of an encoder with a graph: its `encode` gives plain vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from akt_spark.content.encoders import Encoder


@dataclass(frozen=True)
class Inputs:
    """A batch of B rows as the encoder's model reads it.

    Attributes:
        calls: arguments of `_forward`, a call for rows with a usable image and one for those without.
        rows: (B,) the places in the batch of the rows of all calls, one after the other.
    """

    calls: list[tuple[Any, ...]]
    rows: np.ndarray


def prepare(encoder: Encoder, texts: Sequence[str], images: Sequence[bytes | None]) -> Inputs:
    """Reads a batch as `encode` does, up to the model.

    `encode` itself runs, with a model that only notes what it is given: what training sees cannot differ from it.
    """
    calls: list[tuple[Any, ...]] = []

    def note(ids: list[list[int]], pictures: Any) -> Tensor:
        calls.append((ids, pictures))
        return torch.zeros(len(ids), encoder.dim)

    encoder._forward = note  # hides the method of the class
    try:
        seen = encoder.encode(texts, images)
    finally:
        del encoder._forward
    with_image = ~(seen.image_missing | seen.image_corrupt)
    return Inputs(calls, np.concatenate([np.flatnonzero(with_image), np.flatnonzero(~with_image)]))


def forward(encoder: Encoder, inputs: Inputs) -> Tensor:
    """(B, dim) L2-normalised vectors, with a graph where one is recorded."""
    vectors = torch.cat([encoder._forward(*call) for call in inputs.calls])
    return vectors[torch.from_numpy(np.argsort(inputs.rows)).to(vectors.device)]
