"""Batches of training samples from the Parquet files of a pinned version, through Petastorm or plain Arrow.

Petastorm has no position to resume from and reads all epochs of a reader in one permutation, so the order is decided
here: every epoch opens a new reader over a lane's files in this epoch's order, with one worker thread so that row
groups arrive in that order. The rows of every file are counted, and their checksum is compared with what Spark finds in
the pinned version.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Literal

import numpy as np
import pyarrow.parquet as pq
import torch
from petastorm import make_batch_reader
from torch import Tensor

from akt_spark.errors import DataError
from akt_spark.training import petastorm_fix
from akt_spark.training.columns import Arrays, to_arrays
from akt_spark.training.order import Part, deal, shuffled, steps_per_epoch
from akt_spark.training.samples import Block

Backend = Literal["petastorm", "arrow"]
Batch = dict[str, Tensor]

SAMPLE_ID = "sample_id"  # for the checksum
READ_AHEAD = 8  # row groups that wait in memory
COLUMNS = ("label", "user_idx", "item_idx", "history", "history_length", "user_activity", "item_activity")


def batches(
    blocks: Sequence[Block],
    batch_size: int,
    lane: int = 0,
    lanes: int = 1,
    *,
    seed: int,
    epoch: int,
    shuffle_blocks: int,
    skip: int = 0,
    steps: int | None = None,
    backend: Backend = "petastorm",
) -> Iterator[Batch]:
    """One epoch of shuffled batches of one lane; every lane has the same number of full batches.

    Blocks are permuted and dealt to the lanes; ``shuffle_blocks`` of them at a time are mixed in memory. Rows that do
    not fill a last batch of every lane are dropped (others in every epoch). The first ``skip`` batches are left out,
    and those after ``steps`` where that is given.

    Yields:
        ``label`` (B,) float32; ``user_idx``, ``item_idx``, ``history_length`` (B,) int64; ``history`` (B, L) int64,
        newest first, padded with 0; ``user_activity``, ``item_activity`` (B, 5) float32.

    Raises:
        DataError: when a file holds other rows than its version says.
    """
    if steps is None:
        steps = steps_per_epoch(sum(block.rows for block in blocks), batch_size, lanes)
    parts = deal(shuffled(blocks, seed, epoch), lane, lanes)
    rng = np.random.default_rng([seed, epoch, lane])
    for step, rows in enumerate(_rebatch(_mix(_read(parts, backend), shuffle_blocks, rng), batch_size)):
        if skip <= step < steps:  # what follows is read all the same, so that its rows are counted
            yield to_batch(rows)


def ordered_batches(
    blocks: Sequence[Block], batch_size: int, rank: int = 0, world: int = 1, *, backend: Backend = "petastorm"
) -> Iterator[Batch]:
    """Every row of this rank's share once, in the order of the files; the last batch may be smaller."""
    parts = _read(deal(blocks, rank, world), backend)
    for rows in _rebatch(((part, np.arange(len(part["label"]))) for part in parts), batch_size, keep_rest=True):
        yield to_batch(rows)


def to_batch(rows: Arrays) -> Batch:
    """Tensors as the ranker takes them: integers are int64."""
    tensors = {name: torch.from_numpy(np.require(values, requirements="CW")) for name, values in rows.items()}
    return {name: values if values.is_floating_point() else values.long() for name, values in tensors.items()}


def _read(parts: Sequence[Part], backend: Backend) -> Iterator[Arrays]:
    """The rows of every part, in order; each file is counted, and its checksum compared."""
    if not parts:
        return
    row_groups = _READERS[backend]([part.block.url for part in parts])
    for part in parts:
        pieces, rows, found = [], 0, 0
        while rows < part.block.rows:
            piece = next(row_groups, None)
            if piece is None:
                break
            found += int(piece.pop(SAMPLE_ID).sum())
            pieces.append(piece)
            rows += len(piece["label"])
        if rows != part.block.rows:
            raise _wrong(part.block, f"{backend} returned {rows} rows", part.block.rows)
        if found != part.block.checksum:
            raise _wrong(part.block, f"{backend} returned rows of checksum {found}", part.block.checksum)
        yield {name: values[part.start : part.stop] for name, values in _concatenate(pieces).items()}
    if next(row_groups, None) is not None:
        raise DataError(f"{backend} returned more rows than the pinned version of training.samples holds")


def _wrong(block: Block, found: str, expected: int) -> DataError:
    return DataError(
        f"{block.url}: {found}, the pinned version of training.samples says {expected}; "
        "if the file is whole, run the job again, else run jobs/build_samples.py first"
    )


def _read_petastorm(urls: Sequence[str]) -> Iterator[Arrays]:
    petastorm_fix.apply()
    reader = make_batch_reader(
        list(urls),
        schema_fields=[*COLUMNS, SAMPLE_ID],
        workers_count=1,
        results_queue_size=READ_AHEAD,
        shuffle_row_groups=False,
        num_epochs=1,
        convert_early_to_numpy=True,
    )
    try:
        for row_group in reader:
            yield row_group._asdict()
    finally:
        reader.stop()
        reader.join()


def _read_arrow(urls: Sequence[str]) -> Iterator[Arrays]:
    for url in urls:
        names = [*COLUMNS, SAMPLE_ID]
        yield to_arrays(pq.read_table(url.removeprefix("file://"), columns=names, partitioning=None), names)


_READERS: dict[str, Callable[[Sequence[str]], Iterator[Arrays]]] = {
    "petastorm": _read_petastorm,
    "arrow": _read_arrow,
}


def _mix(parts: Iterator[Arrays], window: int, rng: np.random.Generator) -> Iterator[tuple[Arrays, np.ndarray]]:
    """Joins ``window`` parts at a time, and says in which order their rows are to be taken."""
    while pieces := list(islice(parts, window)):
        rows = _concatenate(pieces)
        yield rows, rng.permutation(len(rows["label"]))


def _rebatch(chunks: Iterator[tuple[Arrays, np.ndarray]], size: int, keep_rest: bool = False) -> Iterator[Arrays]:
    """Cuts chunks of any length, each with the order of its rows, into batches of ``size`` rows.

    The rest of a chunk goes before the next one. Rows are copied here, once each.
    """
    pieces, held = [], 0  # of the next batch
    for chunk, order in chunks:
        start = 0
        while start < len(order):
            chosen = order[start : start + size - held]
            pieces.append({name: values.take(chosen, axis=0) for name, values in chunk.items()})
            held += len(chosen)
            start += len(chosen)
            if held == size:
                yield _concatenate(pieces)
                pieces, held = [], 0
    if keep_rest and pieces:
        yield _concatenate(pieces)


def _concatenate(pieces: Sequence[Arrays]) -> Arrays:
    """Rows one after another; those of a single piece are not copied."""
    if len(pieces) == 1:
        return pieces[0]
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in COLUMNS}
