"""What may keep the gate honest about the tail: activity dropout and the monotone prior (method.md 5.2)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from akt_spark.ranker.lookup import STUDENT, TEACHER


def coded(items, role: int) -> Tensor:
    return ((items.role == role) & (items.codes[:, 0] >= 0)).nonzero()[:, 0]


def test_a_share_of_the_samples_of_teachers_looks_like_a_student_s(build, items):
    entity = build(warm=True, activity_dropout=0.25).item
    ids = torch.arange(120).repeat(40)
    individual, activity = torch.randn(len(ids), 16), torch.randn(len(ids), 5)
    shown, seen = entity._as_tail(ids, individual, activity)
    changed = (seen != activity).any(1)
    may_change = torch.isin(ids, coded(items, TEACHER))
    assert not changed[~may_change].any()
    assert changed[may_change].float().mean().item() == pytest.approx(0.25, abs=0.04)
    assert torch.equal(shown, individual * ~changed[:, None]) and torch.equal(seen[~changed], activity[~changed])
    of_students = {tuple(row) for row in items.activity[items.role == STUDENT].tolist()}
    drawn = {tuple(row) for row in seen[changed].tolist()}
    assert drawn <= of_students and len(drawn) > len(of_students) / 2


def test_with_it_labels_of_heads_train_the_gate_and_the_cluster_part_but_not_their_own_rows(build, items, batch):
    teachers = coded(items, TEACHER)
    batch = batch | {"item_idx": teachers[torch.arange(64) % len(teachers)], "history": torch.zeros(64, 5).long()}
    reached = {}
    for share in (0.0, 1.0):
        model = build(warm=True, activity_dropout=share, history_embedding="fused")
        model(batch).sum().backward()
        embedding = model.item.embedding
        own = embedding.individual.weight.grad.to_dense()[teachers]
        reached[share] = bool(own.any())
        assert embedding.prefix_rows.weight.grad.to_dense().any() and embedding.gate.linear.weight.grad.any()
    assert reached == {0.0: True, 1.0: False}


def test_it_follows_the_random_state_and_does_nothing_at_evaluation(build, batch):
    model, without = build(warm=True, activity_dropout=0.5), build(warm=True)
    ids, drawn = batch["item_idx"], []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(model.item.blocks(ids, batch["item_activity"], *model.item.gather(ids))[1])
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])
    without.load_state_dict(model.state_dict())
    assert torch.equal(model.eval()(batch), without.eval()(batch))


def test_the_slope_is_the_derivative_of_the_gate(build, items):
    embedding = build(warm=True, gate_floor=0.1).item.embedding.double().eval()
    embedding.scaler.std += torch.rand(5)
    with torch.no_grad():
        embedding.gate.norm.running_var.copy_(torch.rand(5) + 0.5)
    ids = coded(items, TEACHER)
    activity, step = items.activity[ids].double(), torch.zeros(5, dtype=torch.float64)
    for feature in range(5):
        step.zero_()[feature] = 1e-6
        expected = (embedding.weight(ids, activity + step) - embedding.weight(ids, activity - step))[:, 0] / 2e-6
        slope = embedding.gate.slope(embedding.scaler(activity), feature) / embedding.scaler.std[feature]
        torch.testing.assert_close(slope, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("weight", [1.0, -1.0])
def test_the_prior_pushes_back_a_gate_that_leans_more_on_clusters_with_impressions_and_no_other(build, items, weight):
    embedding = build(warm=True).item.embedding
    with torch.no_grad():
        embedding.gate.linear.weight.zero_()[0, 1] = weight
    ids = torch.arange(1, 120)
    penalty = embedding.rise(ids, items.activity[ids])
    penalty.backward()
    gradient = embedding.gate.linear.weight.grad[0, 1]
    assert (penalty > 0 and gradient > 0) if weight > 0 else (penalty == 0 and gradient == 0)


def test_the_prior_is_the_mean_slope_over_the_samples_whose_gate_is_their_own(build, items):
    embedding = build(warm=True, item_admission=10).item.embedding
    with torch.no_grad():
        embedding.gate.linear.weight.zero_()[0, 1] = 1.0
    ids = torch.arange(1, 120)
    slope = embedding.gate.slope(embedding.scaler(items.activity[ids]), 1) / embedding.scaler.std[1]
    counted = (items.impressions[ids] >= 10) & (items.codes[ids, 0] >= 0)
    assert slope.min() > 0 and 0 < counted.sum() < 119
    torch.testing.assert_close(embedding.rise(ids, items.activity[ids]), (slope * counted).mean())


def test_the_prior_counts_purchases_where_nothing_says_what_was_shown(build, items):
    embedding = build(warm=True).item.embedding
    with torch.no_grad():
        embedding.scaler.mean[:3] = torch.tensor([0.0, 0.0, 2.0])
        embedding.gate.linear.weight.zero_()[0, 2] = 1.0
    ids = torch.arange(1, 120)
    assert embedding.rise(ids, items.activity[ids]) > 0
