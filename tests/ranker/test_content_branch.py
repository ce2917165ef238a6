from __future__ import annotations

from dataclasses import replace

import torch

from akt_spark.config import ModelConfig
from akt_spark.ranker.akt_rec import Ranker
from akt_spark.ranker.content_branch import ContentBranch

MAKE = {"content_branch": "trained", "pretrain_epochs": 1}


def test_the_branch_reads_content_of_target_and_recent_history_alone(items, batch):
    branch = ContentBranch(ModelConfig(**MAKE, recent=5), items)
    logits = branch(batch)
    others = {name: torch.zeros_like(batch[name]) for name in ("user_idx", "user_activity", "item_activity")}
    assert torch.equal(branch(batch | others), logits)
    longer = batch["history"].clone()
    longer[:, 5:] = 1
    assert torch.equal(branch(batch | {"history": longer}), logits)
    elsewhere = torch.where(batch["history"] > 0, batch["history"] % 100 + 1, 0)
    assert not torch.allclose(branch(batch | {"history": elsewhere}), logits)


def test_entries_without_a_vector_count_as_if_they_were_not_there(items, batch):
    vector = items.vector.clone()
    vector[4] = 0.0
    branch = ContentBranch(ModelConfig(**MAKE), replace(items, vector=vector))
    target = {"item_idx": torch.tensor([5])}
    with_gap, without = (branch(target | {"history": torch.tensor([row])}) for row in ([1, 4, 2], [1, 2, 0]))
    torch.testing.assert_close(with_gap, without)


def test_the_tower_reads_what_the_branch_found_and_a_frozen_branch_does_not_learn_from_it(items, users, batch):
    learns = {}
    for kind in ("trained", "frozen"):
        model = Ranker(ModelConfig(**MAKE | {"content_branch": kind}), items, users, seed=1)
        seen = []
        model.tower.register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(inputs[0]))
        model(batch).sum().backward()
        found = model.content_branch.features(batch)
        assert torch.equal(seen[0][:, -model.content_branch.width :], found)
        assert torch.equal(found[:, -1], model.content_branch(batch))
        learns[kind] = {p.grad is not None for p in model.content_branch.parameters()}
    assert learns == {"trained": {True}, "frozen": {False}}
