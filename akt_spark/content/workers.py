"""What runs inside Spark's Python workers: batches of rows to vectors.

Models are loaded once. The cache below holds because this module is importable on the workers (a cache inside a pickled
function would be a new one for every task) and Spark reuses its Python workers; encoders live in `model_pool`.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import pyarrow as pa

from akt_spark.config import EncoderConfig
from akt_spark.content.encoding import Rows
from akt_spark.content.model_pool import end_idle_models, leased
from akt_spark.content.model_process import PackedSpec
from akt_spark.content.prompts import row_prompt
from akt_spark.content.resources import task_device
from akt_spark.content.results import COLUMNS
from akt_spark.content.throughput import Work

EMBEDDING_FIELDS = f"item_id STRING, content_hash STRING, {COLUMNS}"
WINDOW_BYTES = 256 * 2**20  # of rows that are sorted together: all of a task, unless its images are large
_loaded: dict[tuple[str, str], Any] = {}


class Sum(Protocol):
    """Takes in what was done: Spark's accumulator, or a list's stand-in in tests."""

    def add(self, work: Work) -> None:
        """Adds it."""
        ...


def loaded_once(revision: str, device: str, load: Callable[[], Any]) -> Any:
    """The model of this process; loads it the first time. Torch is held to one thread: Spark runs a worker a core."""
    import torch

    torch.set_num_threads(1)
    if (revision, device) not in _loaded:
        _loaded.clear()  # the models of an earlier stage would stay in memory
        end_idle_models()
        _loaded[revision, device] = load()
    return _loaded[revision, device]


def embed_items(
    batches: Iterator[pa.RecordBatch], spec: PackedSpec, config: EncoderConfig, stall_seconds: float, total: Sum
) -> Iterator[pa.RecordBatch]:
    """For ``mapInArrow``: catalogue rows (item_id, content_hash, image, the columns of the prompt) to EMBEDDING_FIELDS.

    See `embed_rows` for the arguments.
    """
    return embed_rows(batches, read_items, ("item_id", "content_hash"), spec, config, stall_seconds, total)


def read_items(window: pa.Table) -> Rows:
    """Texts and images of catalogue rows."""
    rows = window.drop_columns(["item_id", "content_hash", "image"]).to_pylist()
    return Rows([row_prompt(row) for row in rows], window.column("image").to_pylist())


def embed_rows(
    batches: Iterator[pa.RecordBatch],
    read: Callable[[pa.Table], Rows],
    keys: Sequence[str],
    spec: PackedSpec,
    config: EncoderConfig,
    stall_seconds: float,
    total: Sum,
) -> Iterator[pa.RecordBatch]:
    """Rows to the given keys of theirs, the first of which names a row, and COLUMNS.

    Args:
        batches: rows.
        read: what the encoder is given of some of them.
        keys: columns that are passed on.
        spec: the encoder.
        config: batches and device.
        stall_seconds: see `ModelProcess`.
        total: gets what this task did.
    """
    started, done = time.monotonic(), Work(workers=frozenset([f"{socket.gethostname()}:{os.getpid()}"]))
    with leased(spec, task_device(config.device), stall_seconds) as process:
        for window in _windows(batches, WINDOW_BYTES):
            window = window.sort_by(keys[0])  # a shuffle's order varies, and the last bits of vectors with their batch
            rows = read(window)
            different, equal = rows.distinct()
            names = window.column(keys[0]).take(pa.array(different)).to_pylist()
            result, work = process.encode(rows.take(different), names, config.batch_size, config.batch_tokens)
            work.rows, work.repeated = len(equal), len(equal) - len(different)
            done += work
            passed = {name: window.column(name).combine_chunks() for name in keys}
            yield pa.RecordBatch.from_pydict(passed | result.take(equal).to_arrow())
    done.seconds = time.monotonic() - started - done.load_seconds
    total.add(done)


def _windows(batches: Iterator[pa.RecordBatch], max_bytes: int) -> Iterator[pa.Table]:
    """Joins batches until they take ``max_bytes``: memory stays bounded however many rows a task has."""
    held, size = [], 0
    for batch in batches:
        if held and size + batch.nbytes > max_bytes:
            yield pa.Table.from_batches(held)
            held, size = [], 0
        if batch.num_rows:
            held.append(batch)
            size += batch.nbytes
    if held:
        yield pa.Table.from_batches(held)
