"""Encoder families: what turns an item's text and photo into a vector.

A spec is small, picklable and travels to Spark's workers; an encoder holds weights and never leaves its process.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

import numpy as np

from akt_spark.config import EncoderConfig

FAMILIES = {"minilm_vl": "MiniLMVLSpec", "qwen_vl": "QwenVLSpec"}  # a module of this package, and its spec


@dataclass(frozen=True)
class Encoded:
    """Vectors of one batch, and what the encoder saw of each row.

    Attributes:
        vectors: (B, dim) float32, L2-normalised.
        image_missing: (B,) bool, no image was given.
        image_corrupt: (B,) bool, the image could not be decoded; the vector is exactly that of the text alone.
        n_tokens: (B,) int32, text tokens read, special tokens included.
        truncated: (B,) bool, the text was longer than that.
    """

    vectors: np.ndarray
    image_missing: np.ndarray
    image_corrupt: np.ndarray
    n_tokens: np.ndarray
    truncated: np.ndarray


@dataclass(frozen=True)
class Prepared:
    """A batch that is ready for the model; a family adds what its model reads.

    Attributes:
        tokens: what the model has to read, image tokens included.
        padded_tokens: what it reads with padding.
    """

    tokens: int
    padded_tokens: int


class Encoder(Protocol):
    """A loaded encoder. A row's vector does not depend on the rest of its batch (to 1e-5)."""

    revision: str
    dim: int

    def lengths(self, texts: Sequence[str], images: Sequence[bytes | None]) -> np.ndarray:
        """(B,) tokens that rows take in a batch, their images' included: for batches that fit, not part of a vector."""
        ...

    def prepare(self, texts: Sequence[str], images: Sequence[bytes | None]) -> Prepared:
        """Reads B texts and their encoded images (None: no image); may run in another thread than `forward`."""
        ...

    def forward(self, prepared: Prepared) -> Encoded:
        """Runs the model on what `prepare` gave."""
        ...


class EncoderSpec(Protocol):
    """How to load an encoder in any process."""

    @property
    def family(self) -> str:
        """Key of the registry."""
        ...

    @property
    def revision(self) -> str:
        """Changes with anything that changes a vector, and with nothing else."""
        ...

    @property
    def dim(self) -> int:
        """Length of a vector."""
        ...

    @property
    def use_images(self) -> bool:
        """Whether images need to be shipped to it."""
        ...

    @property
    def made_of(self) -> dict[str, Any]:
        """JSON-like values that tell encoders apart: all that a vector depends on, under names that a user knows."""
        ...

    def load(self, device: str) -> Encoder:
        """Loads the weights onto a torch device."""
        ...


def encoder_spec(config: EncoderConfig) -> EncoderSpec:
    """The spec of the configured family, under ``encoder.revision`` where that is set.

    Raises:
        ConfigError: when the configured model cannot be used.
    """
    module = import_module(f"{__name__}.{config.family}")  # imports torch: only where an encoder is wanted
    spec = getattr(module, FAMILIES[config.family]).of(config)
    return NamedSpec(spec, config.revision) if config.revision else spec


@dataclass(frozen=True)
class DerivedSpec:
    """A spec made from another one, with which it shares what is not said anew."""

    base: EncoderSpec

    @property
    def family(self) -> str:
        """That of the base, as all that follows."""
        return self.base.family

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self.base.dim

    @property
    def use_images(self) -> bool:
        """Whether images need to be shipped to it."""
        return self.base.use_images

    @property
    def made_of(self) -> dict[str, Any]:
        """All that a vector depends on."""
        return self.base.made_of

    def load(self, device: str) -> Encoder:
        """Loads the weights onto a torch device."""
        return self.base.load(device)


@dataclass(frozen=True)
class NamedSpec(DerivedSpec):
    """A spec under a revision that was set by hand."""

    revision: str
