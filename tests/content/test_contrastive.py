from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from akt_spark.content.contrastive import KnownPairs, info_nce, recall_at

NOTHING = KnownPairs(np.empty((0, 2), dtype=np.int64), 4)


def test_known_pairs_are_found_in_both_directions_and_at_every_place_of_an_item():
    known = KnownPairs(np.array([[0, 1], [2, 0], [0, 1]]), 4)
    assert known.mask(np.array([0, 1, 3, 0]), np.array([1, 0, 2, 1])).tolist() == [
        [True, False, True, True],
        [False, True, False, False],
        [False, False, False, False],
        [True, False, True, True],
    ]
    assert not NOTHING.mask(np.array([0, 1]), np.array([2, 3])).any()


def test_the_loss_equals_its_formula():
    scores, log_q = torch.tensor([[0.5, 0.4], [0.1, 0.3]]), torch.tensor([-1.0, -2.0])
    tau = 0.5
    a = [math.exp(0.5 / tau + 1), math.exp(0.4 / tau + 2)]
    b = [math.exp(0.1 / tau + 1), math.exp(0.3 / tau + 2)]
    expected = -(math.log(a[0] / sum(a)) + math.log(b[1] / sum(b))) / 2
    nobody = torch.zeros(2, 2, dtype=torch.bool)
    assert info_nce(scores, log_q, nobody, tau, margin=1.0).item() == pytest.approx(expected, abs=1e-6)


def test_known_and_suspiciously_near_candidates_are_no_negatives():
    log_q, nobody = torch.zeros(2), torch.zeros(2, 2, dtype=torch.bool)
    near = torch.tensor([[0.5, 0.65], [0.0, 0.9]])
    alone = info_nce(torch.tensor([[0.5, -1e9], [0.0, 0.9]]), log_q, nobody, 0.1, margin=1.0)
    assert info_nce(near, log_q, nobody, 0.1, margin=0.1) == pytest.approx(alone)
    assert info_nce(near, log_q, nobody, 0.1, margin=0.2) > alone
    known = torch.tensor([[True, True], [False, True]])  # a pair is never masked from itself
    assert info_nce(near, log_q, known, 0.1, margin=0.2) == pytest.approx(alone)


def test_recall_counts_competitors_but_not_the_anchor_and_its_training_partners():
    angles = torch.tensor([0.0, 0.1, 0.2, 0.3])
    vectors = torch.stack([angles.cos(), angles.sin()], dim=1)
    far = np.array([[0, 2]])  # item 1 is nearer to 0 than item 2 is
    assert recall_at(1, vectors, far, NOTHING) == 0
    assert recall_at(2, vectors, far, NOTHING) == 1
    assert recall_at(1, vectors, far, KnownPairs(np.array([[0, 1]]), 4)) == 1
    assert recall_at(1, vectors, np.array([[0, 1], [0, 3]]), NOTHING, rows_at_once=1) == 0.5


def test_collapsed_or_burst_vectors_find_nothing():
    for value in (1.0, float("nan")):
        assert recall_at(2, torch.full((4, 2), value), np.array([[0, 1]]), NOTHING) == 0


def test_recall_counts_what_counting_every_competitor_gives():
    rng = np.random.default_rng(3)
    vectors = torch.from_numpy(rng.integers(-2, 3, (60, 3))).float()  # many ties
    vectors[7] = torch.nan
    training, pairs = rng.integers(0, 60, (80, 2)), rng.integers(0, 60, (200, 2))
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    known, hits = KnownPairs(training, 60), 0
    for anchor, positive in pairs:
        scores = vectors[anchor] @ vectors.T
        leave = known.mask(np.array([anchor]), np.arange(60))[0]
        leave[[anchor, positive]] = True
        hits += sum(not leave[item] and not scores[item] < scores[positive] for item in range(60)) < 9
    assert recall_at(9, vectors, pairs, known, rows_at_once=16) == hits / len(pairs)
    assert 0 < hits < len(pairs)
