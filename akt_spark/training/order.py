"""Which rows each lane holds, and in which order: a pure function of the blocks, the seed and the epoch.

A lane is a share of the samples with a stream of batches of its own. Every step takes one batch of each lane. Ranks
work on the lanes, so neither what a step takes nor the order of steps depends on how many ranks there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle

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


def steps_per_epoch(rows: int, batch_size: int, lanes: int) -> int:
    """Optimiser steps of an epoch: what the lane with the fewest rows can fill."""
    return rows // lanes // batch_size


def lanes_of(rank: int, world: int, lanes: int) -> range:
    """The lanes that a rank works on; ``lanes`` is a multiple of ``world``."""
    return range(rank, lanes, world)


def deal(blocks: Sequence[Block], share: int, shares: int) -> list[Part]:
    """One share of the blocks: laid end to end, they are cut into ``shares`` pieces of equal length.

    Every row belongs to exactly one share and no two differ by more than one row, whatever the sizes and the number of
    the blocks. At most ``shares - 1`` blocks are cut, and read twice.
    """
    total = sum(block.rows for block in blocks)
    first, last = share * total // shares, (share + 1) * total // shares
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


def next_blocks(blocks: Sequence[Block], rows: int, seed: int, epoch: int) -> tuple[Block, ...]:
    """The fewest blocks with so many rows that follow those of the epoch before, round and round in one order."""
    order = cycle(shuffled(blocks, seed, epoch=0))
    for _ in range(epoch):
        taken: list[Block] = []
        while sum(block.rows for block in taken) < rows:
            taken.append(next(order))
    return tuple(taken)
