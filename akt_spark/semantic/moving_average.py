"""Codebooks as moving averages of what they quantise, instead of by gradient (method.md 4.2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

EPSILON = 1e-5


class MovingAverage:
    """N_k <- g N_k + (1 - g) n_k, m_k <- g m_k + (1 - g) sum of the residuals of code k, C_k = m_k / (N_k + epsilon).

    Args:
        codebooks: (K_l, d) a level, changed in place; their values are the first averages, each of one residual.
        decay: g.
    """

    def __init__(self, codebooks: Sequence[Tensor], decay: float) -> None:
        self.codebooks = codebooks
        self._decay = decay
        self._counts = [torch.ones(len(book)) for book in codebooks]  # N
        self._sums = [book.detach().clone() for book in codebooks]  # m

    @torch.no_grad()
    def update(self, codes: Tensor, residuals: list[Tensor]) -> None:
        """Takes in a batch: codes (B, L) and residuals r_0, ..., r_L; level l quantises r_{l-1}."""
        for level, (book, counts, sums) in enumerate(zip(self.codebooks, self._counts, self._sums, strict=True)):
            code = codes[:, level]
            total = torch.zeros_like(sums).index_add_(0, code, residuals[level])
            counts.lerp_(torch.bincount(code, minlength=len(book)).to(counts), 1 - self._decay)
            sums.lerp_(total, 1 - self._decay)
            book.copy_(sums / (counts + EPSILON).unsqueeze(1))

    def forget(self, level: int, rows: Tensor) -> None:
        """Starts the averages of re-seeded codes again from where they are now."""
        self._counts[level][rows] = 1
        self._sums[level][rows] = self.codebooks[level][rows].detach()
