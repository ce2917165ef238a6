"""Inference arithmetic whose bits depend on nothing but the row itself.

A matrix product sums in an order that its library chooses by shape, thread count and CPU, so a vector near the border
of two codes could change its semantic ID with the batch it arrives in. Here every sum runs over its terms one after the
other, with element-wise float32 operations that IEEE 754 rounds exactly: the same row gives the same bits in any batch,
with any number of threads, on any machine. It is slower than BLAS (some 20,000 vectors a second and core through a
whole network), but faster than the encoder that made the vectors. `nearest` gives the same distances to codes faster.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
LAYER_NORM_EPS = np.float32(1e-5)


def layer_norm(x: Floats) -> Floats:
    """Rows of ``x`` (N, D) with mean 0 and variance 1 over D; no learned scale."""
    width = np.float32(x.shape[1])
    centred = x - (_row_sums(x) / width)[:, None]
    variance = _row_sums(centred * centred) / width
    return centred / np.sqrt(variance + LAYER_NORM_EPS)[:, None]


def dense(x: Floats, weight: Floats, bias: Floats) -> Floats:
    """``x @ weight.T + bias``: x (N, I), weight (O, I), bias (O,) to (N, O)."""
    columns = np.ascontiguousarray(weight.T)  # (I, O)
    out = np.tile(bias, (len(x), 1))
    term = np.empty_like(out)
    for i, column in enumerate(columns):
        np.multiply(x[:, i, None], column, out=term)
        out += term
    return out


def relu(x: Floats) -> Floats:
    """Rectifier; chosen over smooth activations because it is exact."""
    return np.maximum(x, np.float32(0))


def squared_distances(x: Floats, centres: Floats) -> Floats:
    """Squared Euclidean distances of x (N, d) to centres (K, d): (N, K), equal bits for equal centres."""
    total = np.zeros((len(x), len(centres)), np.float32)
    for i in range(x.shape[1]):
        difference = x[:, i, None] - centres[None, :, i]
        total += difference * difference
    return total


def squared_norms(x: Floats) -> Floats:
    """Squared length of every row of x (N, D): (N,)."""
    return _row_sums(x * x)


def _row_sums(x: Floats) -> Floats:
    total = np.zeros(len(x), np.float32)
    for column in np.ascontiguousarray(x.T):  # a column at a time, in order
        total += column
    return total
