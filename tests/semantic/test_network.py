from __future__ import annotations

import torch

from akt_spark.semantic.network import Network, rotate, straight_through

from .conftest import SMALL


def gradient(bridge, latent: torch.Tensor, quantised: torch.Tensor, upstream: torch.Tensor) -> torch.Tensor:
    latent = latent.clone().requires_grad_()
    bridge(latent, quantised).backward(upstream)
    return latent.grad


def test_rotation_gives_exactly_the_quantised_value() -> None:
    latent, quantised = torch.randn(100, 8), torch.randn(100, 8)
    assert torch.equal(rotate(latent, quantised), quantised)
    assert torch.equal(straight_through(latent, quantised), quantised)


def test_rotation_turns_and_scales_the_gradient_by_hand() -> None:
    latent, quantised = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 1.0]])  # a quarter turn, half the length
    along, across = torch.tensor([[0.0, 1.0]]), torch.tensor([[-1.0, 0.0]])
    assert torch.allclose(gradient(rotate, latent, quantised, along), torch.tensor([[0.5, 0.0]]), atol=1e-6)
    assert torch.allclose(gradient(rotate, latent, quantised, across), torch.tensor([[0.0, 0.5]]), atol=1e-6)
    assert torch.equal(gradient(straight_through, latent, quantised, along), along)


def test_opposite_and_zero_vectors_pass_the_gradient_straight_through() -> None:
    latent = torch.tensor([[1.0, 2.0], [0.0, 0.0], [1.0, 1.0]])
    quantised = torch.tensor([[-2.0, -4.0], [1.0, 0.0], [0.0, 0.0]])
    upstream = torch.tensor([[1.0, 0.0], [0.5, 2.0], [3.0, 1.0]])
    assert torch.equal(gradient(rotate, latent, quantised, upstream), upstream)


def test_codebooks_learn_from_the_codebook_term_and_the_encoder_from_the_others() -> None:
    network = Network(24, SMALL)
    latent = torch.randn(64, 8)
    codes, residuals = network.quantise(latent)
    quantised = sum(book[codes[:, level]] for level, book in enumerate(network.codebooks))
    assert torch.allclose(residuals[0] - residuals[-1], quantised, atol=1e-5)
    reconstruction, distances, codes, _ = network.losses(torch.randn(64, 24))
    (reconstruction + distances).backward()
    used = torch.unique(codes[:, 0])
    unused = [code for code in range(16) if code not in used]
    assert network.codebooks[0].grad[used].abs().sum() > 0
    assert network.codebooks[0].grad[unused].abs().sum() == 0
    assert network.encoder[0].weight.grad.abs().sum() > 0
