"""What is drawn as a hard negative, against the definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from akt_spark.config import AlignmentConfig
from akt_spark.content.alignment_batches import EpochBatches, PairData
from akt_spark.content.contrastive import HardNegatives, KnownPairs, info_nce
from akt_spark.content.hard_negatives import RANKS, draw, hard_pools

ITEMS = 250


def catalogue() -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
    """Vectors, categories 0 to 3 and -1 (none), and known pairs."""
    rng = np.random.default_rng(5)
    vectors = torch.nn.functional.normalize(torch.from_numpy(rng.normal(size=(ITEMS, 8))).float(), dim=-1)
    return vectors, rng.integers(-1, 4, ITEMS), rng.integers(0, ITEMS, (2000, 2))


def test_pools_hold_exactly_the_items_of_the_definition():
    vectors, category, pairs = catalogue()
    paired = np.arange(0, ITEMS, 2)
    pools = hard_pools(vectors, paired, category, KnownPairs(pairs, ITEMS), rows_at_once=50)
    partners = {tuple(pair) for pair in np.concatenate([pairs, pairs[:, ::-1]]).tolist()}
    first, last = RANKS
    for anchor in paired:
        others = [int(i) for i in torch.argsort(-(vectors @ vectors[anchor])) if i != anchor and i in paired]
        expected = {
            item
            for item in others[first - 1 : last]
            if category[item] == category[anchor] != -1 and (anchor, item) not in partners
        }
        assert {int(item) for item in pools[anchor] if item >= 0} == expected
    assert (pools[1::2] == -1).all()  # without pairs
    assert not set(pools[pools >= 0].tolist()) & set(range(1, ITEMS, 2)), "what nobody has clicked is no negative"
    assert any((pools[anchor] >= 0).sum() > 4 for anchor in paired)


def test_a_small_catalogue_has_no_hard_negatives():
    vectors = torch.eye(10)
    pools = hard_pools(vectors, np.arange(10), np.zeros(10, dtype=np.int64), KnownPairs(np.array([[0, 1]]), 10))
    assert (pools == -1).all()


def test_draws_are_distinct_members_of_the_anchor_s_pool_and_tell_their_share():
    pools = np.full((3, 6), -1, dtype=np.int32)
    pools[0], pools[1, :2] = np.arange(10, 16), (20, 21)
    drawn, log_share = draw(pools, np.array([0, 1, 2, 0]), 4, np.random.default_rng(1))
    assert len(set(drawn[0])) == 4
    assert set(drawn[0]) <= set(range(10, 16))
    assert sorted(drawn[1]) == [-1, -1, 20, 21]
    assert (drawn[2] == -1).all()
    assert log_share[:2, 0].tolist() == pytest.approx([math.log(4 / 6), 0.0])
    assert set(drawn[3]) <= set(range(10, 16))


def test_a_hard_negative_enters_the_loss_of_its_anchor_alone_unless_it_is_suspiciously_near():
    scores, nothing = torch.tensor([[0.5, 0.1], [0.2, 0.4]]), torch.zeros(2, 2, dtype=torch.bool)
    log_q, tau = torch.tensor([-1.0, -2.0]), 0.5

    def loss(hard_score: float) -> float:
        absent = torch.tensor([[False], [True]])
        hard = HardNegatives(torch.tensor([[hard_score], [0.9]]), torch.full((2, 1), -3.0), absent)
        return info_nce(scores, log_q, nothing, tau, 0.1, hard).item()

    a = [math.exp(0.5 / tau + 1), math.exp(0.1 / tau + 2), math.exp(0.3 / tau + 3)]
    b = [math.exp(0.2 / tau + 1), math.exp(0.4 / tau + 2)]
    assert loss(0.3) == pytest.approx(-(math.log(a[0] / sum(a)) + math.log(b[1] / sum(b))) / 2, abs=1e-5)
    without = info_nce(scores, log_q, nothing, tau, 0.1).item()
    assert loss(0.61) == pytest.approx(without)  # 0.5 + margin: a likely false negative


def test_a_batch_compares_every_anchor_with_its_own_hard_negatives():
    vectors, category, pairs = catalogue()
    data = PairData(vectors.numpy(), pairs, pairs[:10], category)
    known, config = KnownPairs(pairs, ITEMS), AlignmentConfig(batch_size=64, hard_negatives=3)
    pools = hard_pools(vectors, np.unique(pairs), category, known)
    batch = EpochBatches(data, known, pools, config, epoch=2)[0]
    assert batch.hard.shape == (64, 3)
    for (anchor, _), drawn in zip(batch.pairs, batch.hard, strict=True):
        assert set(drawn) <= set(pools[anchor]) | {-1}
    assert set(batch.items) == set(batch.pairs.ravel()) | set(batch.hard.ravel()) - {-1}
    plain = EpochBatches(data, known, None, config, epoch=2)[0]
    np.testing.assert_array_equal(plain.pairs, batch.pairs)
    assert batch.loss(vectors[batch.items]) > plain.loss(vectors[plain.items])
