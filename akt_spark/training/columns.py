"""Columns of Arrow tables as arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

Arrays = dict[str, np.ndarray]


def to_arrays(table: pa.Table | pa.RecordBatch, columns: Sequence[str]) -> Arrays:
    """Columns as arrays; lists of equal length become matrices."""
    return {name: _to_array(table.column(name)) for name in columns}


def _to_array(column: pa.ChunkedArray | pa.Array) -> np.ndarray:
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if pa.types.is_list(column.type):
        return column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)
    return column.to_numpy(zero_copy_only=False)
