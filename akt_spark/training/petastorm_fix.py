"""Closes a race in petastorm 0.13.1 that silently loses rows, and spares it work on every row.

A reader has a *ventilator* thread that hands row groups to worker threads. ``ThreadPool.get_results`` ends the
iteration when two tests succeed, in this order:

1. ``all_workers_done()``: every row group handed out so far was processed, and no result waits;
2. ``ventilator.completed()``: every row group was handed out.

When the ventilator hands out its last row groups *between* the two tests, both succeed although those row groups
were never read: the epoch ends early, without an error. Testing completion first closes the race: the ventilator
counts a row group before it declares itself complete, so the test that follows sees all of them.

Its conversion of a row group makes an array of the list of every row, to stack them again, and text of fixed width of
strings. A list column whose lists have equal lengths is a matrix already (`to_arrays`).
"""

from __future__ import annotations

import warnings

import pyarrow as pa
from petastorm import arrow_reader_worker
from petastorm.workers_pool.thread_pool import ThreadPool

from akt_spark.training.columns import Arrays, to_arrays

_all_workers_done = ThreadPool.all_workers_done


def _all_row_groups_done(pool: ThreadPool) -> bool:
    handed_out = pool._ventilator is None or pool._ventilator.completed()
    return handed_out and _all_workers_done(pool)


def _converted(table: pa.Table, schema: object) -> Arrays:
    return to_arrays(table, table.column_names)


def apply() -> None:
    """Replaces that test and that conversion, and silences petastorm's use of pyarrow's old file systems.

    Calling it again changes nothing.
    """
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"petastorm\.")
    ThreadPool.all_workers_done = _all_row_groups_done
    arrow_reader_worker.convert_arrow_table_to_numpy_dict = _converted
