"""Vectors in Arrow batches: flat float32 buffers in and out, no Python object a row."""

from __future__ import annotations

import numpy as np
import pyarrow as pa


def vectors_to_arrow(vectors: np.ndarray, missing: np.ndarray | None = None) -> pa.ListArray:
    """(N, dim) float32 to a list column; rows where ``missing`` (N,) is true are null."""
    rows, dim = vectors.shape
    offsets = pa.array(np.arange(rows + 1, dtype=np.int32) * dim)
    flat = pa.array(np.ascontiguousarray(vectors, dtype=np.float32).ravel())
    mask = pa.array(missing) if missing is not None and missing.any() else None
    return pa.ListArray.from_arrays(offsets, flat, mask=mask)


def vectors_from_arrow(column: pa.ChunkedArray | pa.Array, dim: int) -> np.ndarray:
    """A list column without nulls to a new (N, dim) float32 array."""
    values = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return np.array(values.flatten().to_numpy(zero_copy_only=False), dtype=np.float32).reshape(-1, dim)
