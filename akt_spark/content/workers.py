"""What runs inside Spark's Python workers: batches of rows to vectors.

Models are loaded once a process. The caches below hold because this module is importable on the workers (a cache
inside a pickled function would be a new one for every task) and Spark reuses its Python workers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from akt_spark.config import EncoderConfig
from akt_spark.content.arrow import vectors_to_arrow
from akt_spark.content.batching import token_batches
from akt_spark.content.encoders import Encoder, EncoderSpec
from akt_spark.content.prompts import row_prompt
from akt_spark.content.resources import task_device

EMBEDDING_FIELDS = (
    "item_id STRING, content_hash STRING, image_missing BOOLEAN, image_corrupt BOOLEAN, n_tokens INT, "
    "truncated BOOLEAN, error STRING, vector ARRAY<FLOAT>"
)
_loaded: dict[tuple[str, str], Any] = {}


def loaded_once(revision: str, device: str, load: Callable[[], Any]) -> Any:
    """The model of this process; loads it the first time. Torch is held to one thread: Spark runs a worker a core."""
    import torch

    torch.set_num_threads(1)
    if (revision, device) not in _loaded:
        _loaded.clear()  # the models of an earlier stage would stay in memory
        _loaded[revision, device] = load()
    return _loaded[revision, device]


def embed_items(
    batches: Iterator[pa.RecordBatch], spec: EncoderSpec, config: EncoderConfig
) -> Iterator[pa.RecordBatch]:
    """For ``mapInArrow``: catalogue rows to the columns of EMBEDDING_FIELDS."""
    device = task_device(config.device)
    encoder = loaded_once(spec.revision, device, lambda: spec.load(device))
    for batch in batches:
        rows = batch.to_pylist()
        texts = [row_prompt(row) for row in rows]
        result = encode_rows(encoder, texts, [row["image"] for row in rows], config.batch_size, config.batch_tokens)
        failed = np.array([error is not None for error in result.errors], dtype=bool)
        columns = {
            "item_id": batch.column("item_id"),
            "content_hash": batch.column("content_hash"),
            "image_missing": pa.array(result.image_missing, mask=failed),
            "image_corrupt": pa.array(result.image_corrupt, mask=failed),
            "n_tokens": pa.array(result.n_tokens, mask=failed),
            "truncated": pa.array(result.truncated, mask=failed),
            "error": pa.array(result.errors, type=pa.string()),
            "vector": vectors_to_arrow(result.vectors, failed),
        }
        yield pa.RecordBatch.from_pydict(columns)


@dataclass
class EncodedRows:
    """Like `Encoded`, with (N,) ``errors``: why a row has no vector, or None."""

    vectors: np.ndarray
    image_missing: np.ndarray
    image_corrupt: np.ndarray
    n_tokens: np.ndarray
    truncated: np.ndarray
    errors: list[str | None]

    @classmethod
    def empty(cls, rows: int, dim: int) -> EncodedRows:
        """Room for ``rows`` results."""
        return cls(
            vectors=np.zeros((rows, dim), dtype=np.float32),
            image_missing=np.zeros(rows, dtype=bool),
            image_corrupt=np.zeros(rows, dtype=bool),
            n_tokens=np.zeros(rows, dtype=np.int32),
            truncated=np.zeros(rows, dtype=bool),
            errors=[None] * rows,
        )


def encode_rows(
    encoder: Encoder, texts: Sequence[str], images: Sequence[bytes | None], batch_size: int, batch_tokens: int
) -> EncodedRows:
    """Encodes N rows in batches of similar length, so that little is padded; results keep the order of the rows.

    A batch that fails is tried again row by row; a row that fails alone gets its error, and no vector.
    """
    result = EncodedRows.empty(len(texts), encoder.dim)
    for batch in token_batches(encoder.lengths(texts, images), batch_size, batch_tokens):
        if _try_encode(encoder, texts, images, batch, result) is not None:
            for row in batch:
                result.errors[row] = _try_encode(encoder, texts, images, np.array([row]), result)
    return result


def _try_encode(
    encoder: Encoder,
    texts: Sequence[str],
    images: Sequence[bytes | None],
    rows: np.ndarray,
    result: EncodedRows,
) -> str | None:
    """Encodes the given rows into ``result``; returns the error, if any: data of any kind must not fail the job."""
    try:
        encoded = encoder.encode([texts[i] for i in rows], [images[i] for i in rows])
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    if not np.isfinite(encoded.vectors).all():
        return "the encoder returned a vector that is not finite"
    for name in ("vectors", "image_missing", "image_corrupt", "n_tokens", "truncated"):
        getattr(result, name)[rows] = getattr(encoded, name)
    return None
