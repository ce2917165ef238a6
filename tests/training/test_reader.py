"""Batches through Petastorm and through Arrow."""

from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from akt_spark.errors import DataError
from akt_spark.training.reader import COLUMNS, batches, ordered_batches
from akt_spark.training.samples import Block, checksum
from training.conftest import HISTORY, sample_table, write_blocks

SIZES = [20, 7, 33, 12, 1]  # 73 rows


@pytest.fixture
def blocks(tmp_path: Path) -> tuple[Block, ...]:
    return write_blocks(tmp_path / "a folder", SIZES)  # a space in the path


def numbers(epoch_batches) -> list[float]:
    return [number for batch in epoch_batches for number in batch["user_activity"][:, 0].tolist()]


def test_petastorm_and_arrow_yield_exactly_the_same_batches(blocks) -> None:
    for rank in (0, 1):
        arguments = dict(batch_size=8, lane=rank, lanes=2, seed=3, epoch=2, shuffle_blocks=2)
        pairs = list(
            zip(
                batches(blocks, backend="petastorm", **arguments),
                batches(blocks, backend="arrow", **arguments),
                strict=True,
            )
        )
        assert len(pairs) == 73 // 2 // 8
        for one, other in pairs:
            for name in COLUMNS:
                assert one[name].dtype == other[name].dtype
                assert torch.equal(one[name], other[name])


def test_batch_has_the_shapes_and_types_of_the_ranker(blocks) -> None:
    batch = next(batches(blocks, 8, seed=1, epoch=1, shuffle_blocks=2))
    assert {name: (tuple(values.shape), values.dtype) for name, values in batch.items()} == {
        "label": ((8,), torch.float32),
        "user_idx": ((8,), torch.int64),
        "item_idx": ((8,), torch.int64),
        "history": ((8, HISTORY), torch.int64),
        "history_length": ((8,), torch.int64),
        "user_activity": ((8, 5), torch.float32),
        "item_activity": ((8, 5), torch.float32),
    }


def test_a_row_keeps_its_values_together(blocks) -> None:
    written = sample_table(20, 0)
    first_block = {row["user_activity"][0]: row for row in written.to_pylist()}
    for batch in batches(blocks, 8, seed=1, epoch=1, shuffle_blocks=5):
        for i, number in enumerate(batch["user_activity"][:, 0].tolist()):
            if number in first_block:
                row = first_block[number]
                assert batch["item_idx"][i] == row["item_idx"]
                assert batch["history"][i].tolist() == row["history"]
                assert batch["label"][i] == row["label"]


def test_ranks_read_different_rows_in_equally_many_full_batches(blocks) -> None:
    ranks = [list(batches(blocks, 8, rank, 2, seed=1, epoch=1, shuffle_blocks=2)) for rank in (0, 1)]
    assert [len(rank) for rank in ranks] == [4, 4]
    seen = numbers(ranks[0]) + numbers(ranks[1])
    assert len(seen) == len(set(seen)) == 64


def test_order_changes_with_the_epoch_and_repeats_with_the_seed(blocks) -> None:
    def epoch(seed: int, number: int) -> list[float]:
        return numbers(batches(blocks, 8, seed=seed, epoch=number, shuffle_blocks=2, backend="arrow"))

    assert epoch(0, 1) == epoch(0, 1)
    assert epoch(0, 1) != epoch(0, 2)
    assert epoch(0, 1) != epoch(1, 1)
    assert epoch(0, 1) != sorted(epoch(0, 1))


def test_rows_of_different_blocks_share_a_batch(blocks) -> None:
    first = next(batches(blocks, 16, seed=1, epoch=1, shuffle_blocks=5))["user_activity"][:, 0]
    block_of = torch.bucketize(first, torch.tensor(SIZES).cumsum(0) - 1)
    assert len(torch.unique(block_of)) >= 3


@pytest.mark.parametrize("backend", ["petastorm", "arrow"])
def test_ordered_batches_hold_every_row_once_and_in_order(blocks, backend) -> None:
    shares = [numbers(ordered_batches(blocks, 8, rank, 3, backend=backend)) for rank in range(3)]
    assert shares[0] + shares[1] + shares[2] == list(range(73))


def test_ordered_batches_of_a_rank_without_rows_are_empty(tmp_path) -> None:
    blocks = write_blocks(tmp_path, [1])
    assert [len(numbers(ordered_batches(blocks, 8, rank, 3))) for rank in range(3)] == [0, 0, 1]


@pytest.mark.parametrize("backend", ["petastorm", "arrow"])
@pytest.mark.parametrize("wrong", [-1, 1])
def test_other_row_counts_than_the_pinned_ones_are_an_error(blocks, backend, wrong) -> None:
    damaged = [*blocks[:2], replace(blocks[2], rows=blocks[2].rows + wrong), *blocks[3:]]
    with pytest.raises(DataError, match=r"rows.*pinned version"):
        list(batches(damaged, 8, seed=1, epoch=1, shuffle_blocks=2, backend=backend))


@pytest.mark.parametrize("backend", ["petastorm", "arrow"])
def test_other_rows_than_the_pinned_ones_are_an_error_however_many_they_are(blocks, backend) -> None:
    changed = sample_table(blocks[2].rows, first=500)  # as many, but others
    pq.write_table(changed, blocks[2].url.removeprefix("file://"))
    with pytest.raises(DataError, match=r"returned rows of checksum \d+, the pinned version .* says \d+"):
        list(batches(blocks, 8, seed=1, epoch=1, shuffle_blocks=2, backend=backend))


@pytest.mark.parametrize("backend", ["petastorm", "arrow"])
def test_what_comes_after_skipped_batches_is_what_would_have_come(blocks, backend) -> None:
    arguments = dict(seed=1, epoch=1, shuffle_blocks=2, backend=backend)
    whole = [batch["user_activity"].tolist() for batch in batches(blocks, 8, **arguments)]
    assert [batch["user_activity"].tolist() for batch in batches(blocks, 8, skip=5, **arguments)] == whole[5:]


def test_several_row_groups_in_a_file_are_one_block(tmp_path) -> None:
    path = tmp_path / "groups.parquet"
    samples = sample_table(50)
    pq.write_table(samples, path, row_group_size=20)
    block = Block(f"file://{path}", 50, checksum(samples.column("sample_id").to_pylist()))
    for backend in ("petastorm", "arrow"):
        assert numbers(ordered_batches([block], 8, backend=backend)) == list(range(50))
