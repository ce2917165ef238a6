"""Closes a race in petastorm 0.13.1 that silently loses rows, and spares it work on every row.

A reader has a *ventilator* thread that hands row groups to worker threads. ``ThreadPool.get_results`` ends the
iteration when two tests succeed, in this order:

1. ``all_workers_done()``: every row group handed out so far was processed, and no result waits;
2. ``ventilator.completed()``: every row group was handed out.

When the ventilator hands out its last row groups *between* the two tests, both succeed although those row groups
were never read: the epoch ends early, without an error. Testing completion first closes the race: the ventilator
counts a row group before it declares itself complete, so the test that follows sees all of them.

Its conversion of a row group makes an array of the list of every row, to stack them again, and text of fixed width of
strings. A list column whose lists have equal lengths is a matrix already (`to_arrays`). Before that, a row group that
is neither shuffled nor divided has its rows gathered in the order in which they are, which copies every list.
"""

from __future__ import annotations

import warnings
from typing import Any

import pyarrow as pa
from petastorm import arrow_reader_worker
from petastorm.workers_pool.thread_pool import ThreadPool

from akt_spark.training.columns import Arrays, to_arrays

_all_workers_done = ThreadPool.all_workers_done
_read_with_shuffle_row_drop = arrow_reader_worker.ArrowReaderWorker._read_with_shuffle_row_drop


def _all_row_groups_done(pool: ThreadPool) -> bool:
    handed_out = pool._ventilator is None or pool._ventilator.completed()
    return handed_out and _all_workers_done(pool)


def _converted(table: pa.Table, schema: object) -> Arrays:
    return to_arrays(table, table.column_names)


def _whole_row_group(
    worker: arrow_reader_worker.ArrowReaderWorker,
    piece: Any,
    file: object,
    columns: set[str],
    shuffle_row_drop_partition: tuple[int, int],
) -> pa.Table:
    if worker._shuffle_rows or shuffle_row_drop_partition[1] != 1:
        return _read_with_shuffle_row_drop(worker, piece, file, columns, shuffle_row_drop_partition)
    partitions = worker._dataset.partitions
    table = piece.read(columns=columns - set(partitions.partition_names if partitions else ()), partitions=partitions)
    return table.select([name for name in table.column_names if name in columns])


def apply() -> None:
    """Replaces that test, that conversion and that reading, and silences petastorm's use of pyarrow's old file systems.

    Calling it again changes nothing.
    """
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"petastorm\.|akt_spark\.training\.petastorm_fix")
    ThreadPool.all_workers_done = _all_row_groups_done
    arrow_reader_worker.convert_arrow_table_to_numpy_dict = _converted
    arrow_reader_worker.ArrowReaderWorker._read_with_shuffle_row_drop = _whole_row_group
