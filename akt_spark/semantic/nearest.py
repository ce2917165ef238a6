"""The nearest codes, fast and to the last bit: a matrix product proposes, `arithmetic` decides between near ones.

The product's rounding depends on library, shape and threads, but is bounded: a code whose rounded distance lies further
above the smallest than twice the bound cannot be the nearest. One code is left for most rows, and that is the answer;
for the others the distances that count are computed as `arithmetic.squared_distances` does. The result is that of exact
arithmetic over all codes, whatever the product did, at a fraction of the time.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from akt_spark.semantic.arithmetic import Floats, squared_norms

UNIT_ROUNDOFF = np.finfo(np.float32).eps / 2


def nearest(x: Floats, codes: Floats) -> NDArray[np.int64]:
    """The nearest row of codes (K, d) for each of x (N, d), at a tie the lowest: (N,)."""
    rough, bound = _rough_distances(x, codes)
    found, least = _least(rough)
    rough[np.arange(len(x)), found] = np.inf
    limit = least + 2 * bound
    doubtful = np.flatnonzero(~(_least(rough)[1] > limit))  # so that NaN is doubtful
    candidates = ~(rough[doubtful] > limit[doubtful, None])
    np.put_along_axis(candidates, found[doubtful, None], True, axis=1)
    found[doubtful] = _distances(x[doubtful], codes, candidates).argmin(axis=1)
    return found


def nearest_two(x: Floats, codes: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The nearest and the second nearest row of codes (K, d), at a tie the lowest: (N,) each. One code is both."""
    if len(codes) == 1:
        return (np.zeros(len(x), np.int64),) * 2
    rough, bound = _rough_distances(x, codes)
    rows = np.arange(len(x))
    first, least = _least(rough)
    rough[rows, first] = np.inf
    second, next_ = _least(rough)
    rough[rows, second] = np.inf
    limit = next_ + 2 * bound
    # a third one may be among them, or their order is not certain
    doubtful = np.flatnonzero(~((next_ > least + 2 * bound) & (_least(rough)[1] > limit)))
    candidates = ~(rough[doubtful] > limit[doubtful, None])
    for sure in (first, second):
        np.put_along_axis(candidates, sure[doubtful, None], True, axis=1)
    exact = _distances(x[doubtful], codes, candidates)
    first[doubtful] = exact.argmin(axis=1)
    np.put_along_axis(exact, first[doubtful, None], np.inf, axis=1)
    second[doubtful] = exact.argmin(axis=1)
    return first, second


def _least(rough: Floats) -> tuple[NDArray[np.int64], Floats]:
    """Place and value of the least of every row of rough (N, K): (N,) each."""
    found = rough.argmin(axis=1)
    return found, rough[np.arange(len(rough)), found]


def _rough_distances(x: Floats, codes: Floats) -> tuple[Floats, Floats]:
    """||c||^2 - 2 x.c (N, K), and how far ||x||^2 plus it may be from the distance of exact arithmetic (N,).

    A sum of d products in any order is off by at most d u / (1 - d u) times the sum of their sizes (Higham, Accuracy
    and Stability of Numerical Algorithms, section 3.1); all sizes here are below (||x|| + ||c||)^2, three of them are
    summed, and the distance itself is rounded as often: 4 (d + 8) u is above their total.
    """
    norms = np.einsum("kd,kd->k", codes, codes)
    rough = x @ (-2 * codes).T
    rough += norms
    reach = np.sqrt(np.einsum("nd,nd->n", x, x)) + np.sqrt(norms.max())
    return rough, np.float32(4 * (x.shape[1] + 8) * UNIT_ROUNDOFF) * reach * reach


def _distances(x: Floats, codes: Floats, wanted: NDArray[np.bool_]) -> Floats:
    """Squared distances (N, K) as `arithmetic.squared_distances` gives them where ``wanted``, infinite elsewhere."""
    row, code = np.nonzero(wanted)
    found = np.full(wanted.shape, np.inf, np.float32)
    found[row, code] = squared_norms(x[row] - codes[code])
    return found
