from __future__ import annotations

import numpy as np
import pytest

from akt_spark.content.batching import token_batches


def batches(lengths: list[int], max_rows: int = 100, max_tokens: int = 100) -> list[list[int]]:
    return [
        batch.tolist() for batch in token_batches(np.array(lengths, dtype=int), max_rows, max_tokens, max_padding=1.0)
    ]


def test_rows_of_similar_length_share_a_batch():
    assert batches([9, 1, 8, 2], max_rows=2) == [[1, 3], [2, 0]]


def test_padding_counts_against_the_budget():
    assert batches([10, 20, 40], max_tokens=60) == [[0, 1], [2]]  # 40 + 20 padded; 70 real tokens would be 120 padded
    assert batches([10, 20, 40], max_tokens=120) == [[0, 1, 2]]
    assert batches([10, 20, 40], max_tokens=119) == [[0, 1], [2]]


def test_a_row_beyond_the_budget_goes_alone():
    assert batches([500, 30, 30, 700]) == [[1, 2], [0], [3]]


def test_no_rows_make_no_batch():
    assert batches([]) == []


@pytest.mark.parametrize("seed", range(5))
def test_every_row_is_in_one_batch_within_the_limits(seed):
    lengths = np.random.default_rng(seed).integers(1, 60, 200)
    found = batches(lengths.tolist(), max_rows=7, max_tokens=150)
    assert sorted(row for batch in found for row in batch) == list(range(200))
    assert all(len(batch) <= 7 and (len(batch) == 1 or len(batch) * lengths[batch].max() <= 150) for batch in found)


def test_a_batch_ends_where_more_than_a_share_of_it_would_be_padding():
    lengths = np.array([20, 19, 18, 10])  # 18 19 20: 3 of 60 are padding
    assert [batch.tolist() for batch in token_batches(lengths, 100, 1000, max_padding=0.05)] == [[3], [2, 1, 0]]
    assert [batch.tolist() for batch in token_batches(lengths, 100, 1000, max_padding=0.04)] == [[3], [2, 1], [0]]


def test_rows_of_different_kinds_share_no_batch():
    kinds = np.array([True, False, True, False])
    assert [batch.tolist() for batch in token_batches(np.array([1, 2, 2, 2]), 100, 1000, kinds, 1.0)] == [
        [1, 3],
        [0, 2],
    ]
