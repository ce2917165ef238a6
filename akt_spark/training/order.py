"""Which rows each rank reads, and in which order: a pure function of the blocks, the seed and the epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from akt_spark.training.samples import Block


@dataclass(frozen=True)
class Part:
    """Rows ``start`` (inclusive) to ``stop`` (exclusive) of a block."""

    block: Block
    start: int
    stop: int

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.stop - self.start


def steps_per_epoch(rows: int, batch_size: int, world: int) -> int:
    """Optimiser steps of an epoch, the same on every rank: what the rank with the fewest rows can fill."""
    return rows // world // batch_size


def deal(blocks: Sequence[Block], rank: int, world: int) -> list[Part]:
    """The share of one rank: the blocks, laid end to end, are cut into ``world`` pieces of equal length.

    Every row belongs to exactly one rank and no two ranks differ by more than one row, whatever the sizes and the
    number of the blocks. At most ``world - 1`` blocks are cut, and read by two ranks.
    """
    total = sum(block.rows for block in blocks)
    first, last = rank * total // world, (rank + 1) * total // world
    parts, offset = [], 0
    for block in blocks:
        start, stop = max(first - offset, 0), min(last - offset, block.rows)
        if start < stop:
            parts.append(Part(block, start, stop))
        offset += block.rows
    return parts


def shuffled(blocks: Sequence[Block], seed: int, epoch: int) -> list[Block]:
    """The blocks in the order of one epoch."""
    order = np.random.default_rng([seed, epoch]).permutation(len(blocks))
    return [blocks[i] for i in order]
