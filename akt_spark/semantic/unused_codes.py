"""What dead-code reset could not finish: a code that no row of the fit uses moves to where the error is largest.

Resets (`dead_codes`) stop some steps before training ends, and what is used in a batch may be used by no row once the
encoder stands still. Our own addition to method.md 4.2.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from akt_spark.semantic.arithmetic import Floats, squared_norms
from akt_spark.semantic.nearest import nearest
from akt_spark.semantic.residual import chunks

ROUNDS = 8  # a code that was moved may take all rows of another


def occupy(latent: Floats, codebooks: Sequence[Floats]) -> int:
    """Moves every code that no row uses, level by level; how many moves it took. Nothing else moves.

    A level keeps unused codes only where it has more codes than distinct residuals.

    Args:
        latent: y (N, d).
        codebooks: (K_l, d) a level, changed in place.
    """
    moves, residual = 0, latent
    for book in codebooks:
        codes = _codes(residual, book)
        for _ in range(ROUNDS):
            moved = _move_unused(residual, book, codes)
            if not moved:
                break
            moves += moved
            codes = _codes(residual, book)
        residual = residual - book[codes]
    return moves


def _codes(residual: Floats, book: Floats) -> NDArray[np.int64]:
    return np.concatenate([nearest(rows, book) for rows in chunks(residual)])


def _move_unused(residual: Floats, book: Floats, codes: NDArray[np.int64]) -> int:
    """Moves each unused code to the worst row of the code with the largest error, which is then that much smaller."""
    error = squared_norms(residual - book[codes])
    moved = 0
    for code in np.setdiff1d(np.arange(len(book)), codes):
        if not error.any():
            break  # every row stands on a code
        worst = np.bincount(codes, weights=error).argmax()
        row = np.where(codes == worst, error, -1).argmax()
        book[code] = residual[row]
        error = np.minimum(error, squared_norms(residual - residual[row]))
        moved += 1
    return moved
