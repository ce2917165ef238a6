"""The projection head on planted and on random pairs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from akt_spark.config import AlignmentConfig
from akt_spark.content import alignment_batches
from akt_spark.content.alignment import train_head
from akt_spark.content.alignment_batches import EpochBatches, PairData, halves
from akt_spark.content.contrastive import KnownPairs
from akt_spark.content.head import ProjectionHead

ITEMS, GROUPS, DIM = 120, 8, 32
CONFIG = AlignmentConfig(dim=16, hidden=64, batch_size=128, epochs=20, learning_rate=3e-3, recall_at=10)


def pair_data(planted: bool) -> PairData:
    """Pairs inside groups (planted) or between any two items, over vectors that know nothing of groups."""
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(ITEMS, DIM)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    a, b = np.triu_indices(ITEMS, 1)
    if planted:
        same = a % GROUPS == b % GROUPS
        a, b = a[same], b[same]
    chosen = rng.choice(len(a), 700, replace=False)
    pairs = np.stack([a[chosen], b[chosen]], axis=1)
    return PairData(vectors, pairs[200:], pairs[:200], np.arange(ITEMS) % GROUPS // 2)


def test_training_on_planted_pairs_raises_recall_of_pairs_it_never_saw():
    _, metrics = train_head(pair_data(planted=True), CONFIG)
    assert metrics["recall_aligned"] > metrics["recall_raw"] + 0.3


def test_training_on_random_pairs_does_not():
    _, metrics = train_head(pair_data(planted=False), CONFIG)
    assert metrics["recall_aligned"] < metrics["recall_raw"] + 0.1


def test_the_same_seed_gives_the_same_head_and_another_seed_another():
    config = CONFIG.model_copy(update={"epochs": 1})
    data = pair_data(planted=True)
    first, second = (train_head(data, config)[0].project(data.vectors) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    other = train_head(data, config.model_copy(update={"seed": 2}))[0].project(data.vectors)
    assert np.abs(first - other).max() > 1e-3


def test_the_pairs_that_choose_the_epoch_are_not_those_that_judge():
    held_out = pair_data(planted=True).held_out
    choose, judge = halves(np.concatenate([held_out, held_out[:, ::-1]]), seed=1)
    unordered = [{tuple(sorted(pair)) for pair in half.tolist()} for half in (choose, judge)]
    assert not unordered[0] & unordered[1]
    assert len(choose) + len(judge) == 2 * len(held_out)


def test_more_held_out_pairs_than_are_measured_are_sampled_from_all_items(monkeypatch):
    monkeypatch.setattr(alignment_batches, "MEASURED_PAIRS", 50)
    held_out = np.stack([np.arange(1000), np.arange(1000) + 1000], axis=1)  # sorted by item, as they come
    for half in halves(held_out, seed=1):
        assert len(half) == 50
        assert 300 < half[:, 0].mean() < 700


def test_an_item_is_the_positive_of_so_many_pairs_an_epoch_and_of_others_in_the_next():
    data, config = pair_data(planted=True), CONFIG.model_copy(update={"pairs_per_positive": 2})
    known = KnownPairs(data.train, ITEMS)
    epochs = [EpochBatches(data, known, None, config, epoch).pairs for epoch in (1, 2)]
    for pairs in epochs:
        counts = np.bincount(pairs[:, 1], minlength=ITEMS)
        assert (counts == np.minimum(np.bincount(data.train[:, 1], minlength=ITEMS), 2)).all()
    first, second = ({tuple(pair) for pair in pairs.tolist()} for pairs in epochs)
    assert first != second


def test_the_loss_of_a_batch_by_hand():
    """Of (0, 1), (2, 3), (0, 4) and (5, 4): 4 is no negative of 0 and 5, nor 1 of 0; q of an item is its share."""
    train = np.array([[0, 1], [2, 3], [0, 4], [5, 4]])
    data = PairData(np.eye(6, dtype=np.float32), train, train[:0], np.zeros(6, np.int64))
    config = AlignmentConfig(batch_size=4, temperature=0.5, false_negative_margin=2.0)
    batches = EpochBatches(data, KnownPairs(train, 6), None, config, 1)
    vectors = torch.nn.functional.normalize(torch.randn(6, 3, generator=torch.Generator().manual_seed(1)), dim=1)
    share = np.bincount(train.ravel(), minlength=6) / train.size
    known = {(a, b) for a, b in train.tolist()} | {(b, a) for a, b in train.tolist()}

    def one_way(pairs: list[tuple[int, int]]) -> float:
        losses = []
        for a, b in pairs:
            logits = {}
            for place, (other, j) in enumerate(pairs):
                own = (other, j) == (a, b)
                if own or not ((a, j) in known or j in (a, b)):
                    logits[place] = float(vectors[a] @ vectors[j]) / 0.5 - np.log(share[j] + 1e-12)
            exact = np.log(np.sum(np.exp(list(logits.values()))))
            losses.append(exact - (float(vectors[a] @ vectors[b]) / 0.5 - np.log(share[b] + 1e-12)))
        return float(np.mean(losses))

    batch = batches[0]
    pairs = [tuple(pair) for pair in batch.pairs.tolist()]
    expected = (one_way(pairs) + one_way([(b, a) for a, b in pairs])) / 2
    assert batch.items.tolist() == [0, 1, 2, 3, 4, 5]
    assert batch.loss(vectors).item() == pytest.approx(expected, rel=1e-5)


def test_an_untrained_head_keeps_the_raw_geometry():
    raw = torch.nn.functional.normalize(torch.randn(50, 8) @ torch.randn(8, 32), dim=-1)  # 8 real dimensions
    head = ProjectionHead(32, 16, 12).eval()
    head.start_from(raw)
    assert torch.allclose(head(raw) @ head(raw).T, raw @ raw.T, atol=1e-4)


def test_a_saved_head_projects_the_same(tmp_path):
    head = ProjectionHead(32, 16, 8, dropout=0.5)
    head.save(tmp_path / "head")
    raw = np.random.default_rng(1).normal(size=(5, 32)).astype(np.float32)
    np.testing.assert_array_equal(ProjectionHead.load(tmp_path / "head").project(raw), head.project(raw))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["head"]  # nothing unfinished stays


@pytest.mark.parametrize("dim", [8, 48])
def test_a_head_may_be_narrower_or_wider_than_the_raw_vectors(dim):
    head = ProjectionHead(32, 16, dim)
    raw = torch.nn.functional.normalize(torch.randn(50, 32), dim=-1)
    head.start_from(raw)
    assert torch.allclose(head(raw).norm(dim=1), torch.ones(50), atol=1e-5)
