from __future__ import annotations

import numpy as np

from akt_spark.semantic.arithmetic import squared_distances, squared_norms
from akt_spark.semantic.residual import residual_codes

RANDOM = np.random.default_rng(0)


def test_codes_and_residuals_of_a_pinned_codebook() -> None:
    latent = np.array([[3.0, 1.0], [0.0, 0.0]], np.float32)
    first = np.array([[0.0, 0.0], [4.0, 0.0]], np.float32)  # squared distances of (3, 1): 10 and 2
    second = np.array([[-1.0, 2.0], [1.0, 1.0], [0.0, 0.0]], np.float32)  # of the residual (-1, 1): 1, 4 and 2
    assert squared_distances(latent, first).tolist() == [[10.0, 2.0], [0.0, 16.0]]
    codes, residuals, margin = residual_codes(latent, [first, second])
    assert codes.tolist() == [[1, 0], [0, 2]]
    assert residuals[1].tolist() == [[-1.0, 1.0], [0.0, 0.0]]
    assert residuals[2].tolist() == [[0.0, -1.0], [0.0, 0.0]]
    assert margin.tolist() == [np.float32(1 - 2 / 10), 1.0]
    assert squared_norms(residuals[2]).tolist() == [1.0, 0.0]


def test_the_lowest_code_wins_a_tie() -> None:
    latent = np.array([[0.0, 0.0]], np.float32)
    equidistant = np.array([[2.0, 0.0], [0.0, 1.0], [0.0, -1.0], [1.0, 0.0]], np.float32)
    duplicates = np.repeat(RANDOM.normal(size=(1, 2)).astype(np.float32), 37, axis=0)
    assert residual_codes(latent, [equidistant, duplicates])[0].tolist() == [[1, 0]]


def test_the_margin_is_zero_on_a_border_and_one_at_a_code() -> None:
    codes = np.array([[0.0, 0.0], [4.0, 0.0]], np.float32)
    latent = np.array([[0.0, 0.0], [2.0, 0.0], [1.0, 0.0]], np.float32)  # the last: squared distances 1 and 9
    assert residual_codes(latent, [codes])[2].tolist() == [1.0, 0.0, np.float32(1) - np.float32(1) / np.float32(9)]
    assert residual_codes(latent, [codes[:1]])[2].tolist() == [1.0, 1.0, 1.0]  # no other code
    assert residual_codes(latent[:1], [codes[[0, 0]]])[2].tolist() == [0.0]  # two codes at one place
