from __future__ import annotations

import numpy as np
import torch

from akt_spark.semantic.arithmetic import dense, layer_norm, residual_codes, squared_distances, squared_norms

RANDOM = np.random.default_rng(0)


def test_layers_agree_with_torch() -> None:
    x = RANDOM.normal(size=(50, 24)).astype(np.float32)
    weight, bias = RANDOM.normal(size=(7, 24)).astype(np.float32), RANDOM.normal(size=7).astype(np.float32)
    linear = torch.nn.functional.linear(*map(torch.from_numpy, (x, weight, bias)))
    np.testing.assert_allclose(dense(x, weight, bias), linear.numpy(), atol=1e-5)
    np.testing.assert_allclose(layer_norm(x), torch.nn.functional.layer_norm(torch.from_numpy(x), [24]), atol=1e-5)


def test_a_constant_vector_normalises_to_zeros_and_not_to_nan() -> None:
    assert layer_norm(np.full((1, 8), 3, np.float32)).tolist() == [[0.0] * 8]


def test_codes_and_residuals_of_a_pinned_codebook() -> None:
    latent = np.array([[3.0, 1.0], [0.0, 0.0]], np.float32)
    first = np.array([[0.0, 0.0], [4.0, 0.0]], np.float32)  # squared distances of (3, 1): 10 and 2
    second = np.array([[-1.0, 2.0], [1.0, 1.0], [0.0, 0.0]], np.float32)  # of the residual (-1, 1): 1, 4 and 2
    assert squared_distances(latent, first).tolist() == [[10.0, 2.0], [0.0, 16.0]]
    codes, residuals = residual_codes(latent, [first, second])
    assert codes.tolist() == [[1, 0], [0, 2]]
    assert residuals[1].tolist() == [[-1.0, 1.0], [0.0, 0.0]]
    assert residuals[2].tolist() == [[0.0, -1.0], [0.0, 0.0]]
    assert squared_norms(residuals[2]).tolist() == [1.0, 0.0]


def test_the_lowest_code_wins_a_tie() -> None:
    latent = np.array([[0.0, 0.0]], np.float32)
    equidistant = np.array([[2.0, 0.0], [0.0, 1.0], [0.0, -1.0], [1.0, 0.0]], np.float32)
    duplicates = np.repeat(RANDOM.normal(size=(1, 2)).astype(np.float32), 37, axis=0)
    assert residual_codes(latent, [equidistant, duplicates])[0].tolist() == [[1, 0]]
