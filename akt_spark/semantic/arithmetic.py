"""Inference arithmetic whose bits depend on nothing but the row itself.

A matrix product sums in an order that its library chooses by shape, thread count and CPU, so a vector near the border
of two codes could change its semantic ID with the batch it arrives in. Here the order of every sum is written down and
made of element-wise float32 operations that IEEE 754 rounds exactly: the same row gives the same bits in any batch,
with any number of threads, on any machine. It is slower than BLAS (some 20,000 vectors a second and core through a
whole network), but faster than the encoder that made the vectors. `nearest` gives the same distances to codes faster.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
LAYER_NORM_EPS = np.float32(1e-5)
NARROW = 16  # columns: from here on an operation over all rows of a column is faster than one over all columns of a row


def layer_norm(x: Floats) -> Floats:
    """Rows of ``x`` (N, D) with mean 0 and variance 1 over D; no learned scale."""
    width = np.float32(x.shape[1])
    centred = x - (_row_sums(x) / width)[:, None]
    variance = _row_sums(centred * centred) / width
    centred /= np.sqrt(variance + LAYER_NORM_EPS)[:, None]
    return centred


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
    return np.stack([squared_norms(x - centre) for centre in centres], axis=1)


def squared_norms(x: Floats) -> Floats:
    """Squared length of every row of x (N, D): (N,)."""
    return _row_sums(x * x)


def _row_sums(x: Floats) -> Floats:
    """Sums (N,) of the rows of x (N, D): the right half is added to the left until one column is left."""
    while x.shape[1] > NARROW:
        x = _folded(x)
    x = np.asfortranarray(x)
    while x.shape[1] > 1:
        x = _folded(x)
    return x[:, 0]


def _folded(x: Floats) -> Floats:
    half = x.shape[1] // 2
    folded = x[:, :half] + x[:, half : 2 * half]
    if x.shape[1] % 2:
        folded[:, 0] += x[:, -1]
    return folded
