"""Vectors with known groups."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def planted(
    rows: int, dim: int, groups: int, seed: int = 0, noise: float = 0.15
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Unit vectors (rows, dim) around as many random directions as there are groups, and the group of every row."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(groups, dim))
    group = random.integers(0, groups, rows)
    x = centres[group] + noise * random.normal(size=(rows, dim)) * np.sqrt(dim / 4)
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32), group
