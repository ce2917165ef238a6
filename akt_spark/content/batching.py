"""Batches of rows of similar length, within a budget of tokens."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


def token_batches(lengths: np.ndarray, max_rows: int, max_tokens: int) -> Iterator[np.ndarray]:
    """Indices of rows, shortest first, in batches that take at most ``max_tokens`` once all are padded to the longest.

    Args:
        lengths: (N,) tokens of each row; one that is longer than the budget goes alone.
        max_rows: rows of a batch at most.
        max_tokens: rows of a batch times its longest row, at most.
    """
    by_length = np.argsort(lengths, kind="stable")
    start = 0
    for end in range(1, len(by_length) + 1):
        rows = end - start + 1  # with the next row, the longest so far
        if end == len(by_length) or rows > max_rows or rows * lengths[by_length[end]] > max_tokens:
            yield by_length[start:end]
            start = end
