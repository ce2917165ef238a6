"""A fake encoder that writes down, in files, what Spark's workers make it do."""

from __future__ import annotations

import os
import sys
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pyspark import cloudpickle

from akt_spark.content.encoders import Encoded, Prepared

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import the tests


@dataclass(frozen=True)
class FakeSpec:
    """Vectors are random directions, a function of the text.

    The word poison in a text raises an error, deadly ends the process, sleepy never comes to an end.
    """

    folder: str
    revision: str = "fake-1"
    family: str = "fake"
    dim: int = 32
    use_images: bool = True
    prompt: str = "one"
    seconds_a_row: float = 0.0

    @property
    def made_of(self) -> dict[str, object]:
        """What a user could have changed."""
        return {"prompt": self.prompt, "packages": {"fake": "1.0"}}

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

    def prepare(self, texts: Sequence[str], images: Sequence[bytes | None]) -> FakeBatch:
        """Reads nothing yet."""
        lengths = self.lengths(texts, images)
        return FakeBatch(int(lengths.sum()), int(lengths.max() * len(lengths)), texts, images)

    def forward(self, prepared: FakeBatch) -> Encoded:
        """Does what words in the texts say."""
        texts = prepared.texts
        if any("deadly" in text for text in texts):
            os._exit(9)
        while any("sleepy" in text for text in texts):
            time.sleep(1)
        poisoned = [text for text in texts if "poison" in text]
        if poisoned:
            raise ValueError(f"cannot read {poisoned[0]!r}")
        for text in texts:
            self.spec._note("encoded", text)
        time.sleep(self.spec.seconds_a_row * len(texts))
        vectors = np.stack([np.random.default_rng(zlib.crc32(text.encode())).normal(size=self.dim) for text in texts])
        none = np.zeros(len(texts), dtype=bool)
        return Encoded(
            vectors=(vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32),
            image_missing=np.array([image is None for image in prepared.images]),
            image_corrupt=none,
            n_tokens=np.array([len(text.split()) for text in texts], dtype=np.int32),
            truncated=none,
        )

    def encode(self, texts: Sequence[str], images: Sequence[bytes | None]) -> Encoded:
        """Both steps."""
        return self.forward(self.prepare(texts, images))


@dataclass(frozen=True)
class FakeBatch(Prepared):
    """Texts and images as they are."""

    texts: Sequence[str]
    images: Sequence[bytes | None]
