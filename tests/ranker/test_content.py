from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import nn

from akt_spark.config import ModelConfig
from akt_spark.ranker.content import AlignedContent, ContentView, similarity_histogram


def test_the_histogram_counts_cosines_by_tenths_in_log_scale():
    cosine = torch.tensor([[1.0, 0.95, 0.9, -1.0, 0.0, 0.3]])
    mask = torch.tensor([[True, True, True, True, False, True]])
    comparable = torch.tensor([[True, True, True, True, True, False]])
    histogram = similarity_histogram(cosine, comparable, mask)
    expected = torch.zeros(22)
    expected[20], expected[19], expected[0], expected[21] = math.log(3), math.log(2), math.log(2), math.log(2)
    torch.testing.assert_close(histogram[0], expected)


def test_the_content_view_averages_only_entries_that_have_a_vector(items):
    vectors = torch.randn(len(items), 8)
    vectors[[0, 4]] = 0.0
    view = ContentView(ModelConfig(dim=4, content=["item", "history", "similarity"]), replace(items, vector=vectors))
    target = torch.tensor([5])
    with_gap, without = (view(target, torch.tensor([row])) for row in ([1, 4, 2, 0], [1, 2, 0, 0]))
    torch.testing.assert_close(with_gap[:, 4:8], without[:, 4:8])
    unit = nn.functional.normalize(vectors, dim=1)
    torch.testing.assert_close(without[0, 4:8], view.blocks["history"]((unit[1] + unit[2]) / 2))
    assert not torch.equal(with_gap[:, 8:], without[:, 8:]), "the histogram counts the entry without a vector"


def test_interest_is_the_product_of_the_targets_vector_and_the_mean_of_the_history(items):
    view = ContentView(ModelConfig(dim=4, content=["interest"]), items)
    unit = nn.functional.normalize(items.vector, dim=1)
    expected = view.blocks["interest"]((unit[3] * (unit[2] + unit[5]) / 2)[None])
    torch.testing.assert_close(view(torch.tensor([3]), torch.tensor([[2, 5, 0]])), expected)


def test_content_vectors_are_frozen(items):
    every = ["item", "history", "similarity", "interest"]
    for part in (ContentView(ModelConfig(content=every), items), AlignedContent(ModelConfig(), items)):
        assert all("vectors" not in name for name, _ in part.named_parameters())


def test_aligned_content_starts_as_the_projected_vector_and_equal_codes_move_together(items):
    part = AlignedContent(ModelConfig(dim=4), items)
    code = items.codes[5].tolist()
    same = [i for i in range(1, len(items)) if items.codes[i].tolist() == code]
    rows = items.level_codes()
    other = next(i for i in range(1, len(items)) if not torch.isin(rows[i], rows[5]).any())
    ids = torch.tensor([*same, other])
    nobody = torch.zeros(len(ids), 1, dtype=torch.int64)

    def shown() -> torch.Tensor:
        query = torch.zeros(len(ids), 4)
        return part(query, torch.arange(len(ids)), ids, torch.zeros(len(ids), 4), nobody, nobody > 0)[:, :4]

    before = shown()
    torch.testing.assert_close(before, part.project(part.vectors(ids)))
    with torch.no_grad():
        part.alignment.weight[rows[5]] += 1.0
    moved = shown() - before
    torch.testing.assert_close(moved[:-1], torch.full_like(moved[:-1], 2.0))
    assert not moved[-1].any()
