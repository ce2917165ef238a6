from __future__ import annotations

import numpy as np
import torch

from akt_spark.semantic.arithmetic import dense, layer_norm

RANDOM = np.random.default_rng(0)


def test_layers_agree_with_torch() -> None:
    x = RANDOM.normal(size=(50, 24)).astype(np.float32)
    weight, bias = RANDOM.normal(size=(7, 24)).astype(np.float32), RANDOM.normal(size=7).astype(np.float32)
    linear = torch.nn.functional.linear(*map(torch.from_numpy, (x, weight, bias)))
    np.testing.assert_allclose(dense(x, weight, bias), linear.numpy(), atol=1e-5)
    np.testing.assert_allclose(layer_norm(x), torch.nn.functional.layer_norm(torch.from_numpy(x), [24]), atol=1e-5)


def test_a_constant_vector_normalises_to_zeros_and_not_to_nan() -> None:
    assert layer_norm(np.full((1, 8), 3, np.float32)).tolist() == [[0.0] * 8]
