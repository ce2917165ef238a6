"""The nearest codes, fast and to the last bit: a matrix product proposes, `arithmetic` decides between near ones.

The product's rounding depends on library, shape and threads, but is bounded: a code whose rounded distance lies further
above the smallest than twice the bound cannot be the nearest. One code is left for most rows, and that is the answer;
for the others the distances that count are computed one row at a time as `arithmetic.squared_distances` does. The
result is that of exact arithmetic over all codes, whatever the product did, at a fraction of the time.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from akt_spark.semantic.arithmetic import Floats, squared_norms

UNIT_ROUNDOFF = np.finfo(np.float32).eps / 2


def nearest(x: Floats, codes: Floats) -> NDArray[np.int64]:
    """The nearest row of codes (K, d) for each of x (N, d), at a tie the lowest: (N,)."""
    rough, bound = _rough_distances(x, codes)
    found = rough.argmin(axis=1)
    candidates = ~(rough > (rough[np.arange(len(x)), found] + 2 * bound)[:, None])  # so that NaN is a candidate
    doubtful = np.flatnonzero(candidates.sum(axis=1) > 1)
    found[doubtful] = _distances(x[doubtful], codes, candidates[doubtful]).argmin(axis=1)
    return found


def nearest_two(x: Floats, codes: Floats) -> tuple[NDArray[np.int64], Floats, Floats]:
    """The nearest code, its squared distance, and that of the second nearest (infinite with one code): (N,) each."""
    rough, bound = _rough_distances(x, codes)
    second = np.partition(rough, 1, axis=1)[:, 1] if len(codes) > 1 else rough[:, 0]
    exact = _distances(x, codes, ~(rough > (second + 2 * bound)[:, None]))
    rows, found = np.arange(len(x)), exact.argmin(axis=1)
    first = exact[rows, found]
    exact[rows, found] = np.inf
    return found, first, exact.min(axis=1)


def _rough_distances(x: Floats, codes: Floats) -> tuple[Floats, Floats]:
    """||c||^2 - 2 x.c (N, K), and how far ||x||^2 plus it may be from the distance of exact arithmetic (N,).

    A sum of d products in any order is off by at most d u / (1 - d u) times the sum of their sizes (Higham, Accuracy
    and Stability of Numerical Algorithms, section 3.1); all sizes here are below (||x|| + ||c||)^2, three of them are
    summed, and the distance itself is rounded as often: 4 (d + 8) u is above their total.
    """
    norms = np.einsum("kd,kd->k", codes, codes)
    rough = norms - 2 * (x @ codes.T)
    reach = np.sqrt(np.einsum("nd,nd->n", x, x)) + np.sqrt(norms.max())
    return rough, np.float32(4 * (x.shape[1] + 8) * UNIT_ROUNDOFF) * reach * reach


def _distances(x: Floats, codes: Floats, wanted: NDArray[np.bool_]) -> Floats:
    """Squared distances (N, K) as `arithmetic.squared_distances` gives them where ``wanted``, infinite elsewhere."""
    row, code = np.nonzero(wanted)
    found = np.full(wanted.shape, np.inf, np.float32)
    found[row, code] = squared_norms(x[row] - codes[code])
    return found
