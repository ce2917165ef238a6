from __future__ import annotations

import pytest
import torch
from torch import nn

from akt_spark.ranker.views import ClusterMeans, ViewFusion

# ids 1-5 fill cluster 1, where id 5 is heavy; ids 6-7 cluster 2, id 8 is alone in cluster 3, id 9 has no code
CLUSTERS = torch.tensor([0, 1, 1, 1, 1, 1, 2, 2, 3, 0])
IMPRESSIONS = torch.tensor([0, 1, 1, 1, 1, 3, 7, 0, 4, 9])


def means_of(features: torch.Tensor) -> torch.Tensor:
    means = ClusterMeans(CLUSTERS, IMPRESSIONS, features.shape[1])
    means.refresh(nn.Embedding.from_pretrained(features))
    return means(torch.arange(10))


def test_a_large_cluster_shows_the_mean_weighted_by_activity():
    features = torch.randn(10, 3)
    weights = torch.tensor([2.0, 2, 2, 2, 4]).log()
    expected = (weights[:, None] * features[1:6]).sum(0) / weights.sum()
    torch.testing.assert_close(means_of(features)[1:5], expected.expand(4, 3))


def test_nobody_has_a_fifth_of_the_mean_that_it_reads():
    features = torch.randn(10, 3)
    means = means_of(features)
    torch.testing.assert_close(means[5], features[1:5].mean(0))  # it has log 4 of log 64
    for idx in range(1, 9):
        changed = features.clone()
        changed[idx] += 10.0
        assert (means_of(changed)[idx] - means[idx]).abs().max() < 10.0 / 5


def test_a_member_with_all_the_weight_does_not_see_itself():
    features = torch.randn(10, 3)
    means = means_of(features)
    torch.testing.assert_close(means[7], features[6])
    assert not means[6].any(), "the only other member has no impressions and so no weight"
    assert not means[8].any(), "nobody else is there"


def test_padding_and_ids_without_a_code_have_zero_means():
    means = means_of(torch.ones(10, 3))
    assert not means[0].any() and not means[9].any()


def test_an_edited_id_changes_the_means_of_its_own_cluster_only():
    features = torch.randn(10, 3)
    before = means_of(features)
    features[8:] += 1.0
    features[0] += 1.0
    features[6] += 1.0
    after = means_of(features)
    unchanged = [0, 1, 2, 3, 4, 5, 6, 8, 9]
    assert torch.equal(before[unchanged], after[unchanged]) and not torch.equal(before[7], after[7])


def test_the_fusion_weighs_both_views_equally_at_the_start_and_stays_inside_the_floor():
    fusion = ViewFusion([2, 3], dim=4, activity_features=5, floor=0.2, instance_only=[]).eval()
    instance, cluster = [torch.randn(6, 2), torch.randn(6, 3)], [torch.randn(6, 2), torch.randn(6, 3)]
    activity = torch.randn(2, 6, 5) * 100
    near = torch.cat([linear(block) for linear, block in zip(fusion.from_instance, instance, strict=True)], 1)
    far = torch.cat([linear(block) for linear, block in zip(fusion.from_cluster, cluster, strict=True)], 1)
    torch.testing.assert_close(fusion(instance, cluster, *activity), (near + far) / 2)
    nn.init.constant_(fusion.gate.linear.bias, -1e6)
    torch.testing.assert_close(fusion(instance, cluster, *activity), 0.8 * near + 0.2 * far)


def test_a_block_that_only_the_instance_has_fades_with_it():
    fusion = ViewFusion([2], dim=4, activity_features=5, floor=0.2, instance_only=[3]).eval()
    instance, cluster = [torch.randn(6, 2), torch.randn(6, 3)], [torch.randn(6, 2)]
    fused = fusion(instance, cluster, *torch.randn(2, 6, 5))
    shared, own = fused.split(4, 1)
    torch.testing.assert_close(shared, (fusion.from_instance[0](instance[0]) + fusion.from_cluster[0](cluster[0])) / 2)
    torch.testing.assert_close(own, fusion.from_instance[1](instance[1]) / 2)


@pytest.mark.parametrize(("alpha", "share"), [("constant", 0.5), ("instance", 0.0), ("cluster", 1.0)])
def test_the_controls_of_the_fusion_have_one_weight_for_all_samples(alpha, share):
    fusion = ViewFusion([2, 3], dim=4, activity_features=5, floor=0.2, instance_only=[], alpha=alpha)
    instance, cluster = [torch.randn(6, 2), torch.randn(6, 3)], [torch.randn(6, 2), torch.randn(6, 3)]
    near = torch.cat([linear(block) for linear, block in zip(fusion.from_instance, instance, strict=True)], 1)
    far = torch.cat([linear(block) for linear, block in zip(fusion.from_cluster, cluster, strict=True)], 1)
    torch.testing.assert_close(fusion(instance, cluster, *torch.randn(2, 6, 5)), share * far + (1 - share) * near)
    assert not [name for name, _ in fusion.named_parameters() if name.startswith("gate")]


def test_live_means_are_those_of_a_fresh_snapshot_and_send_gradients_into_all_members():
    table = nn.Embedding.from_pretrained(torch.randn(10, 3), freeze=False)
    means = ClusterMeans(CLUSTERS, IMPRESSIONS, 3)
    live = means(torch.arange(10), table)
    assert not means.bank.any()
    means.refresh(table)
    assert torch.equal(live, means(torch.arange(10)))
    means(torch.tensor([1]), table).sum().backward()
    assert table.weight.grad.any(1).nonzero()[:, 0].tolist() == [1, 2, 3, 4, 5]
