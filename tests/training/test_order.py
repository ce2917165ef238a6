"""Dealing blocks to ranks."""

import pytest

from akt_spark.training.order import deal, shuffled, steps_per_epoch
from akt_spark.training.samples import Block

BLOCKS = [Block("a", 5, 0), Block("b", 1, 0), Block("c", 9, 0), Block("d", 4, 0)]


def rows_of(rank: int, world: int) -> list[tuple[str, int]]:
    return [(part.block.url, row) for part in deal(BLOCKS, rank, world) for row in range(part.start, part.stop)]


@pytest.mark.parametrize("world", [1, 2, 3, 7])
def test_every_row_belongs_to_exactly_one_rank(world: int) -> None:
    dealt = [row for rank in range(world) for row in rows_of(rank, world)]
    assert sorted(dealt) == sorted((block.url, row) for block in BLOCKS for row in range(block.rows))


@pytest.mark.parametrize("world", [2, 3, 7])
def test_ranks_differ_by_at_most_one_row(world: int) -> None:
    sizes = [len(rows_of(rank, world)) for rank in range(world)]
    assert max(sizes) - min(sizes) <= 1


def test_steps_are_what_the_smallest_rank_can_fill() -> None:
    assert steps_per_epoch(19, batch_size=4, lanes=2) == 2  # ranks of 9 and 10 rows
    assert steps_per_epoch(7, batch_size=4, lanes=2) == 0


def test_order_depends_on_seed_and_epoch_only() -> None:
    blocks = [Block(str(i), 1, 0) for i in range(20)]
    assert shuffled(blocks, 1, 2) == shuffled(blocks, 1, 2)
    assert shuffled(blocks, 1, 2) != shuffled(blocks, 1, 3)
    assert shuffled(blocks, 1, 2) != shuffled(blocks, 2, 2)
    assert sorted(shuffled(blocks, 0, 1), key=blocks.index) == blocks
