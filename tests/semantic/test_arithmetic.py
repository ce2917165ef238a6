from __future__ import annotations

import numpy as np
import pytest
import torch

from akt_spark.semantic.arithmetic import dense, layer_norm, squared_norms

RANDOM = np.random.default_rng(0)


def test_layers_agree_with_torch() -> None:
    x = RANDOM.normal(size=(50, 24)).astype(np.float32)
    weight, bias = RANDOM.normal(size=(7, 24)).astype(np.float32), RANDOM.normal(size=7).astype(np.float32)
    linear = torch.nn.functional.linear(*map(torch.from_numpy, (x, weight, bias)))
    np.testing.assert_allclose(dense(x, weight, bias), linear.numpy(), atol=1e-5)
    np.testing.assert_allclose(layer_norm(x), torch.nn.functional.layer_norm(torch.from_numpy(x), [24]), atol=1e-5)


def test_a_constant_vector_normalises_to_zeros_and_not_to_nan() -> None:
    assert layer_norm(np.full((1, 8), 3, np.float32)).tolist() == [[0.0] * 8]


@pytest.mark.parametrize("width", [1, 2, 3, 16, 17, 24, 128, 515])
def test_a_row_has_the_same_bits_alone_and_among_others(width: int) -> None:
    x = RANDOM.normal(size=(40, width)).astype(np.float32)
    norms, normalised = squared_norms(x), layer_norm(x)
    np.testing.assert_allclose(norms, np.square(x.astype(np.float64)).sum(axis=1), rtol=1e-5)
    for rows in (slice(3, 4), slice(5, 12), slice(None, None, -1)):
        assert np.array_equal(squared_norms(x[rows]), norms[rows])
        assert np.array_equal(squared_norms(np.asfortranarray(x[rows])), norms[rows])
        assert np.array_equal(layer_norm(x[rows]), normalised[rows])
