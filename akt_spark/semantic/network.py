"""The RQ-VAE that is trained (method.md 4.1): autoencoder, residual quantisation, rotation trick, losses."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from akt_spark.config import QuantizerConfig
from akt_spark.semantic.sinkhorn import balanced_codes

OPPOSITE = 1e-6


class Network(nn.Module):
    """Encoder, codebooks and decoder over normalised vectors (N, D).

    Args:
        dim: D.
        config: sizes, widths, rotation trick, commitment weight, how codebooks learn, levels with Sinkhorn.
    """

    def __init__(self, dim: int, config: QuantizerConfig) -> None:
        super().__init__()
        widths = [dim, *config.hidden, config.latent_dim]
        self.encoder = _mlp(widths)
        self.decoder = _mlp(widths[::-1])
        self.codebooks = nn.ParameterList(
            torch.empty(size, config.latent_dim).uniform_(-1 / size, 1 / size) for size in config.sizes
        )
        self.rotation_trick = config.rotation_trick
        self.commitment = config.commitment
        self.learns_codes = config.codebook_update == "gradient"
        self.sinkhorn_levels = set(config.sinkhorn_levels)

    def autoencoder_loss(self, x: Tensor) -> Tensor:
        """||x - Dec(Enc(x))||^2, mean over rows: the warm-up without quantisation."""
        return _squared_error(x, self.decoder(self.encoder(x)))

    def quantise(self, latent: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Codes (N, L) and residuals r_0 = y, ..., r_L of latents y (N, d); only codebooks get gradients.

        Formula (3): k_l = argmin_k ||r_{l-1} - C_l[k]||^2, r_l = r_{l-1} - C_l[k_l]; in training mode, k_l is balanced
        over the rows on the levels with Sinkhorn.
        """
        codes, residuals = [], [latent.detach()]
        for level, codebook in enumerate(self.codebooks, start=1):
            distances = torch.cdist(residuals[-1], codebook.detach())
            balanced = self.training and level in self.sinkhorn_levels
            codes.append(balanced_codes(distances) if balanced else distances.argmin(dim=1))
            residuals.append(residuals[-1] - codebook[codes[-1]].detach())
        return torch.stack(codes, dim=1), residuals

    def losses(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
        """The two parts of L_rq of method.md 4.1, mean over rows, with codes (N, L) and residuals r_0, ..., r_L.

        L_rq is their sum: the reconstruction, and the distances between codes and residuals. The latter are in units
        of a latent space that the encoder widens while it learns, so they can grow while everything gets better. Codes
        that are moving averages have no term of their own.

        The rotation trick takes the place of the straight-through step, so it is applied where that was: once, between
        the latent y and its quantisation sum_l q_l.
        """
        latent = self.encoder(x)
        codes, residuals = self.quantise(latent)
        chosen = [codebook[codes[:, level]] for level, codebook in enumerate(self.codebooks)]
        distances, before = x.new_zeros(()), latent
        for residual, code_vector in zip(residuals, chosen, strict=False):
            if self.learns_codes:
                distances = distances + _squared_error(residual, code_vector)
            distances = distances + self.commitment * _squared_error(before, code_vector.detach())
            before = before - code_vector.detach()
        quantised = torch.stack(chosen).sum(dim=0).detach()
        bridge = rotate(latent, quantised) if self.rotation_trick else straight_through(latent, quantised)
        return _squared_error(x, self.decoder(bridge)), distances, codes, residuals


def straight_through(latent: Tensor, quantised: Tensor) -> Tensor:
    """The quantised value forward; backward the identity to ``latent``."""
    return quantised.detach() + (latent - latent.detach())


def rotate(latent: Tensor, quantised: Tensor) -> Tensor:
    """Rotation trick (arXiv 2410.06424): the quantised value forward; backward the rotation of latent onto quantised.

    (||q||/||r||) [r - 2 w w'r + 2 q^ u^'r] with u^, q^, w = (u^ + q^)/||u^ + q^|| and the norm ratio held constant.
    Rows with u^ close to -q^ (no rotation is defined) or a zero vector are straight-through. Both are (N, d).
    """
    norm, target_norm = latent.detach().norm(dim=1, keepdim=True), quantised.detach().norm(dim=1, keepdim=True)
    source, target = latent.detach() / norm.clamp(min=1e-12), quantised.detach() / target_norm.clamp(min=1e-12)
    middle = source + target
    middle_norm = middle.norm(dim=1, keepdim=True)
    middle = middle / middle_norm.clamp(min=OPPOSITE)
    reflected = latent - 2 * middle * (middle * latent).sum(dim=1, keepdim=True)
    rotated = (target_norm / norm.clamp(min=1e-12)) * (
        reflected + 2 * target * (source * latent).sum(dim=1, keepdim=True)
    )
    undefined = (middle_norm < OPPOSITE) | (norm < 1e-12) | (target_norm < 1e-12)
    gradient_path = torch.where(undefined, latent, rotated)
    return quantised.detach() + (gradient_path - gradient_path.detach())  # forward: exactly the quantised value


def _squared_error(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).square().sum(dim=1).mean()


def _mlp(widths: list[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width, following in pairwise(widths):
        layers += [nn.Linear(width, following), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
