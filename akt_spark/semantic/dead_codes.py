"""Dead-code reset (method.md 4.2): the switch that keeps a codebook from collapsing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

USAGE_DECAY = 0.95
NOISE = 0.01


class DeadCodes:
    """Follows how often every code is used and re-seeds those that are not.

    Args:
        codebooks: parameters (K_l, d), changed in place.
        share: a code is dead below this share of uniform use, share / K_l.
        generator: source of randomness.
    """

    def __init__(self, codebooks: Sequence[Tensor], share: float, generator: torch.Generator) -> None:
        self.codebooks = codebooks
        self.resets = 0
        self._share = share
        self._generator = generator
        self._usage = [torch.full((len(book),), 1 / len(book)) for book in codebooks]  # moving mean, sums to 1

    def observe(self, codes: Tensor) -> None:
        """Counts the codes (B, L) of a batch."""
        for level, usage in enumerate(self._usage):
            share = torch.bincount(codes[:, level], minlength=len(usage)) / len(codes)
            usage.mul_(USAGE_DECAY).add_(share, alpha=1 - USAGE_DECAY)

    def dead(self) -> list[int]:
        """Dead codes a level."""
        return [int((usage < self._share / len(usage)).sum()) for usage in self._usage]

    @torch.no_grad()
    def reset(self, codes: Tensor, residuals: list[Tensor], forget: Callable[[int, Tensor], None]) -> None:
        """Moves every dead code to a residual of the most populated code of its level, plus a little noise.

        Args:
            codes: (B, L) of the current batch.
            residuals: r_0, ..., r_L of the batch; level l quantises r_{l-1}.
            forget: told the level (from 0) and the rows that were re-seeded, for what else remembers them.
        """
        for level, (book, usage) in enumerate(zip(self.codebooks, self._usage, strict=True)):
            dead = torch.nonzero(usage < self._share / len(usage)).flatten()
            population = torch.bincount(codes[:, level], minlength=len(book)).double()
            for code in dead:
                donor = int(population.argmax())
                members = torch.nonzero(codes[:, level] == donor).flatten()
                row = members[torch.randint(len(members), (), generator=self._generator)]
                noise = torch.randn(book.shape[1], generator=self._generator)
                book[code] = residuals[level][row] + NOISE * residuals[level].std() * noise
                population[donor] /= 2  # half of it is taken over, so the next dead code may split another one
                usage[code] = 1 / len(book)
            forget(level, dead)
            self.resets += len(dead)
