"""Columns of Arrow tables as arrays."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from functools import cache

import numpy as np
import pyarrow as pa

Arrays = dict[str, np.ndarray]


def to_arrays(table: pa.Table | pa.RecordBatch, columns: Sequence[str]) -> Arrays:
    """Columns as arrays; lists of equal length become matrices, and of texts there is `crc32`."""
    return {name: _to_array(table.column(name)) for name in columns}


def _to_array(column: pa.ChunkedArray | pa.Array) -> np.ndarray:
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if pa.types.is_list(column.type):
        return column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)
    if pa.types.is_string(column.type):
        return crc32(column)
    return column.to_numpy(zero_copy_only=False)


def crc32(texts: pa.StringArray) -> np.ndarray:
    """(N,) int64, what Spark's ``crc32`` gives.

    A call of zlib for every row would take a third of the reader's time. CRC-32 is linear but for a constant of the
    length: it is the exclusive or of what each byte adds at its distance from the end, and of the CRC-32 of as many
    zeros (https://en.wikipedia.org/wiki/Computation_of_cyclic_redundancy_checks). A zero byte adds nothing.
    """
    _, offsets, data = texts.buffers()
    ends = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1].astype(np.intp)
    starts, ends = ends[:-1], ends[1:]
    lengths = ends - starts
    data, longest = np.frombuffer(data or b"", np.uint8), int(lengths.max(initial=0))
    added, zeros = _crc32_tables(longest)
    found = zeros[lengths]
    for distance in range(longest):
        place = ends - (distance + 1)
        inside = place >= starts
        found ^= added[distance][data[np.where(inside, place, 0)] * inside]
    return found.astype(np.int64)


@cache
def _crc32_tables(longest: int) -> tuple[np.ndarray, np.ndarray]:
    """What byte b adds at distance d from the end (longest, 256), and CRC-32 of up to so many zeros (longest + 1)."""
    zeros = [zlib.crc32(bytes(length)) for length in range(longest + 1)]
    added = [[zlib.crc32(bytes([byte]) + bytes(d)) ^ zeros[d + 1] for byte in range(256)] for d in range(longest)]
    return np.array(added, np.uint32).reshape(longest, 256), np.array(zeros, np.uint32)
