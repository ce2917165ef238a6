from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from akt_spark.ranker.lookup import EntityLookup


def with_codes(lookup: EntityLookup, codes: list[list[int]]) -> EntityLookup:
    rows = len(codes)
    cut = {name: getattr(lookup, name)[:rows] for name in ("attributes", "category", "activity", "impressions")}
    return replace(lookup, **cut, role=lookup.role[:rows], vector=lookup.vector[:rows], codes=torch.tensor(codes))


def test_ids_share_the_row_of_a_prefix_only_when_they_share_all_its_codes(items):
    lookup = with_codes(items, [[-1, -1], [5, 0], [5, 1], [2, 0], [5, 0]])
    assert lookup.prefixes().tolist() == [[0, 0], [2, 4], [2, 5], [1, 3], [2, 4]]


def test_a_missing_code_ends_the_prefixes_of_an_id(items):
    lookup = with_codes(items, [[-1, -1], [1, -1], [-1, 1], [1, 1]])
    assert lookup.prefixes().tolist() == [[0, 0], [1, 0], [0, 0], [1, 2]]


def test_random_codes_are_the_same_codes_on_other_ids(items):
    shuffled = items.with_random_codes()
    coded = items.codes[:, 0] >= 0
    assert torch.equal(shuffled.codes[:, 0] >= 0, coded)
    assert sorted(shuffled.codes[coded].tolist()) == sorted(items.codes[coded].tolist())
    assert not torch.equal(shuffled.codes, items.codes)
    assert torch.equal(shuffled.codes, items.with_random_codes().codes)


def test_tensors_of_different_lengths_are_refused_with_the_lengths(items):
    with pytest.raises(ValueError, match="'role': 120"):
        replace(items, category=items.category[1:])


def test_a_lookup_without_any_code_level_is_refused(items):
    with pytest.raises(ValueError, match=r"at least one level, not \(120, 0\)"):
        replace(items, codes=items.codes[:, :0])


def test_a_prefix_that_too_few_shown_ids_share_has_no_row(items):
    lookup = with_codes(items, [[-1, -1], [0, 1], [0, 1], [0, 2], [1, 1], [-1, -1]])
    lookup = replace(lookup, impressions=torch.tensor([0, 9, 9, 0, 1, 9]))
    rows = lookup.prefixes()
    assert lookup.supported(rows, 2).tolist() == [[0, 0], [1, 2], [1, 2], [1, 0], [0, 0], [0, 0]]
    assert lookup.supported(rows, 1).tolist() == [[0, 0], [1, 3], [1, 3], [1, 0], [2, 4], [0, 0]]
    assert torch.equal(lookup.supported(rows, 0), rows)
    assert not lookup.supported(rows, 3).any()
