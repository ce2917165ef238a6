"""Rows to vectors with a loaded encoder, in batches of similar length that are read ahead of the model."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from akt_spark.content.ahead import ahead
from akt_spark.content.batching import token_batches
from akt_spark.content.encoders import Encoded, Encoder, Prepared

AHEAD = 2  # batches that are ready or in work while the model computes
DEVICE_LOST = "CUDA error"  # after one, every call of the process fails


@dataclass
class Rows:
    """N rows to encode."""

    texts: Sequence[str]
    images: Sequence[bytes | None]

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, chosen: np.ndarray) -> Rows:
        """The rows at the given places."""
        return Rows([self.texts[i] for i in chosen], [self.images[i] for i in chosen])

    def distinct(self) -> tuple[np.ndarray, np.ndarray]:
        """Places of rows that differ in text or image, and for every row (N,) which of these it equals.

        Catalogues repeat themselves: colours and sizes of one product often share a text, and have no photo. What is
        not a text (prompts of users) always differs.
        """
        number: dict[tuple[str | int, bytes | None], int] = {}
        told = (text if isinstance(text, str) else row for row, text in enumerate(self.texts))
        equal = [number.setdefault(row, len(number)) for row in zip(told, self.images, strict=True)]
        return np.unique(equal, return_index=True)[1], np.array(equal, dtype=np.int64)


@dataclass(frozen=True)
class Part:
    """What became of some rows: vectors, or the reason why there are none; and what it took.

    Attributes:
        rows: (B,) places of the rows.
        encoded: None where there is an error.
        error: of all these rows.
        seconds: in the model.
    """

    rows: np.ndarray
    encoded: Encoded | None
    error: str | None = None
    tokens: int = 0
    padded_tokens: int = 0
    seconds: float = 0.0


def encode_rows(
    encoder: Encoder,
    rows: Rows,
    batch_size: int,
    batch_tokens: int,
    begun: Callable[[np.ndarray], None] = lambda batch: None,
) -> Iterator[Part]:
    """Encodes N rows; while the model computes, another thread tokenises and decodes the next batches.

    A batch that fails is tried again row by row; a row that fails alone gets its error.

    Args:
        encoder: the encoder.
        rows: the rows.
        batch_size: rows of a batch at most.
        batch_tokens: its tokens at most, padding included.
        begun: told the rows of a batch before anything looks at them, from the other thread.
    """

    def prepare(batch: np.ndarray) -> Prepared:
        begun(batch)
        return _prepare(encoder, rows, batch)

    with_image = np.array([image is not None for image in rows.images], dtype=bool)
    batches = token_batches(_lengths(encoder, rows), batch_size, batch_tokens, with_image)
    for batch, prepared in ahead(prepare, batches, AHEAD):
        part = _try(encoder, batch, prepared.result)
        if part.error is None or len(batch) == 1:
            yield part
            continue
        for alone in batch[:, None]:
            yield _try(encoder, alone, lambda alone=alone: _prepare(encoder, rows, alone))


def _prepare(encoder: Encoder, rows: Rows, batch: np.ndarray) -> Prepared:
    chosen = rows.take(batch)
    return encoder.prepare(chosen.texts, chosen.images)


def _try(encoder: Encoder, batch: np.ndarray, prepared: Callable[[], Prepared]) -> Part:
    """Data of any kind must not fail the job."""
    try:
        ready = prepared()
        started = time.perf_counter()
        encoded = encoder.forward(ready)
        seconds = time.perf_counter() - started
    except Exception as error:
        if DEVICE_LOST in str(error):
            raise
        return Part(batch, None, f"{type(error).__name__}: {error}")
    if not np.isfinite(encoded.vectors).all():
        return Part(batch, None, "the encoder returned a vector that is not finite")
    return Part(batch, encoded, None, ready.tokens, ready.padded_tokens, seconds)


def _lengths(encoder: Encoder, rows: Rows) -> np.ndarray:
    """(N,) tokens of each row; 1 where a row cannot be read, as its batch will find out."""
    try:
        return encoder.lengths(rows.texts, rows.images)
    except Exception:
        if len(rows) == 1:
            return np.ones(1, dtype=np.int64)
        return np.concatenate([_lengths(encoder, rows.take(alone)) for alone in np.arange(len(rows))[:, None]])
