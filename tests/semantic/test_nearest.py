from __future__ import annotations

import numpy as np
import pytest

from akt_spark.semantic.arithmetic import squared_distances
from akt_spark.semantic.nearest import nearest, nearest_two

RANDOM = np.random.default_rng(0)


def tables() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Vectors and codes for which a matrix product alone would often decide by its rounding."""
    grid = RANDOM.integers(-2, 3, size=(400, 6)).astype(np.float32)
    ordinary = RANDOM.normal(size=(300, 48)).astype(np.float32)
    codes = RANDOM.normal(size=(37, 48)).astype(np.float32)
    between = (codes[RANDOM.integers(0, 37, 300)] + codes[RANDOM.integers(0, 37, 300)]) / 2
    twins = np.repeat(codes[:9], 4, axis=0)
    twins[1::2] = np.nextafter(twins[1::2], np.float32(9))
    return {
        "ordinary": (ordinary, codes),
        "ties of small integers": (grid, grid[:60]),
        "on borders": (between, codes),
        "codes one rounding apart": (ordinary, twins),
        "all the same": (np.ones((20, 5), np.float32), np.ones((7, 5), np.float32)),
        "far from the origin": (ordinary + np.float32(1000), codes + np.float32(1000)),
        "one code": (ordinary, codes[:1]),
        "no vectors": (ordinary[:0], codes),
    }


@pytest.mark.parametrize("name", tables())
def test_the_nearest_two_are_those_of_exact_arithmetic(name: str) -> None:
    x, codes = tables()[name]
    exact = squared_distances(x, codes)
    assert np.array_equal(nearest(x, codes), exact.argmin(axis=1))  # the lowest of equals
    first, second = nearest_two(x, codes)
    assert np.array_equal(first, exact.argmin(axis=1))
    others = exact.copy()
    others[np.arange(len(x)), first] = np.inf
    assert np.array_equal(second, others.argmin(axis=1))


def test_a_vector_that_is_no_number_gets_a_code_all_the_same() -> None:
    x = np.array([[np.nan, 0.0], [1.0, 0.0]], np.float32)
    assert nearest(x, np.eye(2, dtype=np.float32)).tolist() == [0, 0]
    assert [places.tolist() for places in nearest_two(x, np.eye(2, dtype=np.float32))] == [[0, 0], [1, 1]]
