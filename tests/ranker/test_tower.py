from __future__ import annotations

import torch

from akt_spark.config import ModelConfig
from akt_spark.ranker.tail_preference import TailPreference, most_shown
from akt_spark.ranker.tower import MixtureOfExperts, PosoTower, Wide

CONFIG = ModelConfig(hidden=[8, 4], dropout=0.0, experts=3, attention_hidden=6)
FEATURES, ACTIVITY = torch.randn(5, 7), torch.randn(5, 10)


def test_a_mixture_weighs_its_experts_by_a_softmax_over_the_features():
    tower = MixtureOfExperts(7, CONFIG)
    weights = torch.softmax(tower.choice(FEATURES), 1)
    mixed = sum(weights[:, k, None] * expert(FEATURES) for k, expert in enumerate(tower.experts))
    torch.testing.assert_close(tower(FEATURES, ACTIVITY), tower.out(mixed)[:, 0])
    torch.testing.assert_close(weights.sum(1), torch.ones(5))


def test_poso_multiplies_every_layer_by_a_gate_of_the_activity_that_starts_near_one():
    tower = PosoTower(7, CONFIG, 10)
    hidden = FEATURES
    for layer, gate in zip(tower.layers, tower.gates, strict=True):
        hidden = 2 * torch.sigmoid(gate(ACTIVITY)) * torch.relu(layer[0](hidden))
    torch.testing.assert_close(tower(FEATURES, ACTIVITY), tower.out(hidden)[:, 0])
    with torch.no_grad():
        for gate in tower.gates:
            gate[-1].weight.zero_()
            gate[-1].bias.zero_()
    plain = FEATURES
    for layer in tower.layers:
        plain = layer(plain)
    torch.testing.assert_close(tower(FEATURES, ACTIVITY), tower.out(plain)[:, 0])


def test_the_wide_part_has_one_weight_an_id_and_attribute_value(items, users, batch):
    wide = Wide(items, users)
    with torch.no_grad():
        wide.ids[0].weight[3] += 2.0
        wide.ids[1].weight[4] += 5.0
    before = wide(torch.tensor([9]), torch.tensor([8]))
    attributes = [table(torch.tensor([i]))[:, 0] for table, i in zip(wide.attributes, (9, 8), strict=True)]
    torch.testing.assert_close(before, sum(attributes))
    own = wide(torch.tensor([3]), torch.tensor([4])) - sum(
        table(torch.tensor([i]))[:, 0] for table, i in zip(wide.attributes, (3, 4), strict=True)
    )
    torch.testing.assert_close(own, torch.tensor([7.0]))


def test_the_preference_for_the_tail_adds_the_log_of_its_share_to_tail_items_and_of_the_rest_to_heads(items):
    part = TailPreference(ModelConfig(dim=4, tail_preference=0.5), items)
    history = torch.randn(2, 4)
    head = int((items.impressions == 400).nonzero()[0])
    tail = int((items.impressions == 50).nonzero()[0])
    share = torch.sigmoid(part.preference(history)[:, 0])
    expected = 0.5 * torch.stack([share[0].log(), (1 - share[1]).log()])
    torch.testing.assert_close(part(history, torch.tensor([tail, head])), expected)


def test_heads_are_the_most_shown_fifth_of_what_was_shown_and_equal_counts_stay_together():
    shown = torch.tensor([0, 0, 0, 9, 1, 2, 3, 4, 8, 5, 6, 7, 1])  # ten with impressions
    assert most_shown(shown, 0.2).nonzero()[:, 0].tolist() == [3, 8]
    assert most_shown(torch.tensor([0, 5, 5, 5, 1, 1]), 0.2).nonzero()[:, 0].tolist() == [1, 2, 3]
    assert not most_shown(torch.zeros(4, dtype=torch.int64), 0.2).any()
