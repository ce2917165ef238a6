"""Counts of what the history shares with the target."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from akt_spark.config import ModelConfig
from akt_spark.ranker.lookup import EntityLookup
from akt_spark.ranker.matches import MatchCounts

CODES = [[-1, -1], [0, 1], [0, 1], [0, 2], [1, 1], [-1, -1]]
CATEGORY = [0, 7, 8, 7, 7, 0]


@pytest.fixture
def six(items) -> EntityLookup:
    cut = {name: getattr(items, name)[:6] for name in ("attributes", "activity", "impressions", "role", "vector")}
    return replace(items, codes=torch.tensor(CODES), category=torch.tensor(CATEGORY), **cut)


def counts(items: EntityLookup, kinds: list[str], target: int, history: list[int]) -> list[int]:
    """What a block is a linear map of, back from its logarithms."""
    block = MatchCounts(ModelConfig(match_counts=kinds), items)
    seen: list[torch.Tensor] = []
    block.project.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    block(torch.tensor([target]), torch.tensor([history]))
    return seen[0][0].expm1().round().int().tolist()


@pytest.mark.parametrize(("kinds", "expected"), [(["item"], [2, 6]), (["category"], [4, 6]), (["sid"], [4, 3, 6])])
def test_entries_are_counted_that_are_of_the_target_s_kind_and_then_all(six, kinds, expected):
    assert counts(six, kinds, target=1, history=[1, 2, 3, 4, 1, 5, 0, 0]) == expected


def test_equal_later_codes_below_another_first_code_are_no_match(six):
    assert counts(six, ["sid"], target=4, history=[1, 2, 4]) == [1, 1, 3]


def test_neither_padding_nor_ids_without_code_or_category_match_each_other(six):
    assert counts(six, ["item", "category", "sid"], target=5, history=[5, 5, 0]) == [2, 0, 0, 0, 2]
    assert counts(six, ["item", "category", "sid"], target=0, history=[0, 0, 0]) == [0, 0, 0, 0, 0]
