"""The gradient cache against the gradients of one big batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from akt_spark.content import gradient_cache

ROWS = 24


def network(dropout: float) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 16), nn.GELU(), nn.Dropout(dropout), nn.Linear(16, 4)).double()


def contrastive(vectors: torch.Tensor) -> torch.Tensor:
    """A loss in which every row's gradient depends on all others."""
    z = F.normalize(vectors, dim=-1)
    return F.cross_entropy(z[::2] @ z[1::2].T / 0.1, torch.arange(ROWS // 2))


def gradients(model: nn.Module, parts: list[np.ndarray]) -> tuple[float, list[torch.Tensor]]:
    x = torch.randn(ROWS, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    torch.manual_seed(3)  # of dropout
    loss = gradient_cache.backward(lambda rows: model(x[rows]), parts, contrastive)
    return loss, [p.grad for p in model.parameters()]


def parts(size: int) -> list[np.ndarray]:
    """Micro-batches in an order of their own."""
    return np.split(np.random.default_rng(1).permutation(ROWS), range(size, ROWS, size))


@pytest.mark.parametrize("size", [1, 5, 24])
def test_gradients_are_those_of_one_big_batch(size):
    expected, whole = gradients(network(0.0), [np.arange(ROWS)])
    loss, cached = gradients(network(0.0), parts(size))
    assert loss == pytest.approx(expected, abs=1e-12)
    for one, other in zip(cached, whole, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


def test_with_dropout_both_passes_see_the_same_network():
    model, cut = network(0.5).train(), parts(5)
    x = torch.randn(ROWS, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    torch.manual_seed(3)
    vectors = torch.cat([model(x[part]) for part in cut])  # all graphs at once, the same draws of dropout
    contrastive(vectors[np.argsort(np.concatenate(cut))]).backward()
    _, cached = gradients(network(0.5).train(), cut)
    for parameter, one in zip(model.parameters(), cached, strict=True):
        torch.testing.assert_close(one, parameter.grad, atol=1e-5, rtol=0)


def test_only_one_part_s_graph_is_alive_at_a_time():
    alive, most = 0, 0

    class Counted(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            nonlocal alive, most
            if x.requires_grad:
                alive += 1
                most = max(most, alive)
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            nonlocal alive
            alive -= 1
            return gradient

    model = network(0.0)
    x = torch.randn(ROWS, 6, dtype=torch.float64)

    def forward(rows):
        hidden = model(x[rows])
        return Counted.apply(hidden) if torch.is_grad_enabled() else hidden

    gradient_cache.backward(forward, parts(4), contrastive)
    assert (alive, most) == (0, 1)
