"""Batches of rows of similar length, within a budget of tokens."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

MAX_PADDING = 0.05  # of a batch's tokens: what keeps the waste of any mix of lengths below that


def token_batches(
    lengths: np.ndarray,
    max_rows: int,
    max_tokens: int,
    kinds: np.ndarray | None = None,
    max_padding: float = MAX_PADDING,
) -> Iterator[np.ndarray]:
    """Indices of rows, shortest first, in batches that take at most ``max_tokens`` once all are padded to the longest.

    Args:
        lengths: (N,) tokens of each row; one that is longer than the budget goes alone.
        max_rows: rows of a batch at most.
        max_tokens: rows of a batch times its longest row, at most.
        kinds: (N,) rows of different kinds (with and without an image) share no batch.
        max_padding: share of padding in a batch at most.
    """
    kinds = np.zeros(len(lengths), dtype=int) if kinds is None else kinds
    order = np.lexsort((lengths, kinds))
    read = np.concatenate([[0], np.cumsum(lengths[order])])
    start = 0
    for end in range(1, len(order) + 1):
        if end < len(order) and kinds[order[end]] == kinds[order[start]]:
            rows = end - start + 1  # with the next row, the longest so far
            padded = rows * lengths[order[end]]
            padding = padded - (read[end + 1] - read[start])
            if rows <= max_rows and padded <= max_tokens and padding <= max_padding * padded:
                continue
        yield order[start:end]
        start = end
