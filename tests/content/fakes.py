"""A fake encoder that writes down, in files, what Spark's workers make it do."""

from __future__ import annotations

import os
import sys
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pyspark import cloudpickle

from akt_spark.content.encoders import Encoded

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import the tests


@dataclass(frozen=True)
class FakeSpec:
    """Vectors are random directions, a function of the text; a text with the word poison cannot be encoded."""

    folder: str
    revision: str = "fake-1"
    family: str = "fake"
    dim: int = 32
    use_images: bool = True

    def load(self, device: str) -> FakeEncoder:
        """Notes the process and device that loaded it."""
        self._note("loads", f"{os.getpid()} {device}")
        return FakeEncoder(self)

    def notes(self, name: str) -> list[str]:
        """What was noted so far."""
        path = Path(self.folder, name)
        return path.read_text().splitlines() if path.exists() else []

    def _note(self, name: str, line: str) -> None:
        with Path(self.folder, name).open("a") as file:
            file.write(line + "\n")


class FakeEncoder:
    """See `FakeSpec`."""

    def __init__(self, spec: FakeSpec) -> None:
        self.spec, self.revision, self.dim = spec, spec.revision, spec.dim

    def lengths(self, texts: Sequence[str], images: Sequence[bytes | None]) -> np.ndarray:
        """A token a word."""
        return np.array([len(text.split()) for text in texts])

    def encode(self, texts: Sequence[str], images: Sequence[bytes | None]) -> Encoded:
        """Refuses a batch that holds a poisoned text."""
        poisoned = [text for text in texts if "poison" in text]
        if poisoned:
            raise ValueError(f"cannot read {poisoned[0]!r}")
        for text in texts:
            self.spec._note("encoded", text)
        vectors = np.stack([np.random.default_rng(zlib.crc32(text.encode())).normal(size=self.dim) for text in texts])
        none = np.zeros(len(texts), dtype=bool)
        return Encoded(
            vectors=(vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32),
            image_missing=np.array([image is None for image in images]),
            image_corrupt=none,
            n_tokens=np.array([len(text.split()) for text in texts], dtype=np.int32),
            truncated=none,
        )
