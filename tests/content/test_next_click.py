"""The loss of user models on hand-made numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from akt_spark.config import InterestConfig
from akt_spark.content.next_click import ClickData, Earlier, Items, mean_pooled, next_click_loss, recall_of

ITEMS = Items(torch.eye(3), torch.tensor([0, 1, -1]), torch.tensor([0.5, 0.25, 0.25]))
LOGITS = torch.tensor([[2.0, 0.0]])


def loss(interest: list[float], target: int, drawn: list[int], before: Sequence[int] = (), **config: object) -> float:
    values = {"category_weight": 0.0, "temperature": 0.5} | config
    earlier = Earlier(torch.zeros(len(before), dtype=torch.int64), torch.tensor(before, dtype=torch.int64))
    given = torch.tensor([interest]), LOGITS, torch.tensor([target]), torch.tensor(drawn), earlier
    return next_click_loss(*given, ITEMS, InterestConfig(**values)).item()


def test_infonce_is_over_the_distinct_clicks_of_the_batch_and_corrects_for_how_often_they_are_drawn():
    log_q = np.log(1 - (1 - np.array([0.5, 0.25])) ** 3)  # three clicks were drawn
    logits = np.array([0.6, 0.8]) / 0.5 - log_q
    expected = -(logits[0] - np.log(np.exp(logits).sum()))
    assert loss([0.6, 0.8, 0.0], 0, [1, 0, 1]) == pytest.approx(expected, abs=1e-6)


def test_what_the_user_clicked_earlier_does_not_compete():
    alone = loss([0.6, 0.8, 0.0], 0, [0])
    assert loss([0.6, 0.8, 0.0], 0, [0, 1, 2], before=[1, 2]) == pytest.approx(alone, abs=1e-6) == 0
    assert loss([0.6, 0.8, 0.0], 0, [0, 1, 0], before=[0, 1, 0]) == pytest.approx(alone, abs=1e-6)  # clicked again
    assert loss([0.6, 0.8, 0.0], 0, [0, 1], before=[2]) == loss([0.6, 0.8, 0.0], 0, [0, 1])  # no candidate anyway
    assert loss([0.6, 0.8, 0.0], 0, [0, 1]) > 0.1


def test_cosine_looks_at_nothing_but_the_clicked_item():
    assert loss([0.6, 0.8, 0.0], 1, [0, 1, 2], loss="cosine") == pytest.approx(-0.8)
    assert loss([0.6, 0.8, 0.0], 1, [1], loss="cosine") == pytest.approx(-0.8)


def test_the_category_counts_with_its_weight_and_not_where_there_is_none():
    bare = loss([1.0, 0.0, 0.0], 0, [0, 1])
    category = np.log(1 + np.exp(-2.0))
    assert loss([1.0, 0.0, 0.0], 0, [0, 1], category_weight=0.5) == pytest.approx(bare + 0.5 * category, abs=1e-6)
    assert loss([1.0, 0.0, 0.0], 2, [2], category_weight=0.5) == loss([1.0, 0.0, 0.0], 2, [2])


def test_recall_leaves_out_earlier_clicks_and_counts_ties_against_the_model():
    data = ClickData(np.eye(3, dtype=np.float32), np.zeros(3), 1, [np.array([0, 1])], [[]], np.array([True]))
    cuts = {0: np.array([1])}
    assert recall_of({0: torch.tensor([[0.9, 0.5, 0.1]])}, cuts, data, 1) == 1.0  # item 0 was clicked before
    assert recall_of({0: torch.tensor([[0.0, 0.5, 0.5]])}, cuts, data, 1) == 0.0
    assert recall_of({0: torch.tensor([[0.0, 0.5, 0.5]])}, cuts, data, 2) == 1.0
    assert mean_pooled(data, 0, np.array([0, 1])).tolist() == [[0, 0, 0], [1, 0, 0]]
