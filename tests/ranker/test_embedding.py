from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.autograd import gradcheck

from akt_spark.config import ModelConfig
from akt_spark.ranker.akt_rec import Ranker
from akt_spark.ranker.embedding import AttributeEmbedding, squared_cosine, unit
from akt_spark.ranker.lookup import NONE, STUDENT, TEACHER

IDS = torch.arange(1, 60)


def test_the_gate_is_one_half_for_every_coded_id_at_the_start(build, items):
    gate = build().gate("item")
    coded = items.codes[:, 0] >= 0
    assert torch.equal(gate[coded], torch.full_like(gate[coded], 0.5))
    assert not gate[~coded].any()


@pytest.mark.parametrize("floor", [0.0, 0.2, 0.4])
def test_the_gate_stays_inside_its_floor(build, floor):
    embedding = build(gate_floor=floor, cluster_mode="per_id").item.embedding.eval()
    with torch.no_grad():
        embedding.gate.linear.weight.fill_(50.0)
    weight = embedding.weight(IDS, torch.randn(len(IDS), 5) * 100).detach()
    assert weight.min().item() == pytest.approx(floor, abs=1e-6) and weight.max().item() == pytest.approx(
        1 - floor, abs=1e-6
    )


def test_equal_activity_has_equal_gates_in_any_batch_at_evaluation(build):
    embedding = build(warm=True, cluster_mode="per_id").item.embedding
    activity = torch.randn(59, 5)
    embedding.weight(IDS, activity)  # a training step moves the statistics
    embedding.eval()
    alone = torch.cat([embedding.weight(IDS[i : i + 1], activity[i : i + 1]) for i in range(59)])
    torch.testing.assert_close(embedding.weight(IDS, activity), alone, rtol=1e-6, atol=0)


def test_evaluation_leaves_the_running_statistics_alone(build, batch):
    model = build().eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model(batch)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("mode", ["per_id", "prefix", "hybrid"])
def test_the_fused_embedding_lies_between_cluster_and_individual_part(build, mode):
    embedding = build(warm=True, cluster_mode=mode, transfer=False).item.embedding.eval()
    c, d = embedding.cluster(IDS), embedding.individual(IDS)
    fused = embedding.mix(IDS, d, torch.randn(len(IDS), 5))
    assert ((fused >= torch.minimum(c, d) - 1e-7) & (fused <= torch.maximum(c, d) + 1e-7)).all()


@pytest.mark.parametrize("mode", ["prefix", "hybrid"])
def test_an_id_without_a_code_keeps_its_individual_embedding(build, items, mode):
    embedding = build(warm=True, cluster_mode=mode, transfer=False).item.embedding
    bare = (items.codes[:, 0] < 0).nonzero()[:, 0]
    assert len(bare) > 1
    assert torch.equal(embedding.snapshot(bare), embedding.individual(bare))


def test_a_hybrid_cluster_part_starts_as_the_sum_of_prefix_rows(build):
    embedding = build().item.embedding
    rows = embedding.prefix_rows.weight[embedding.prefixes[IDS]]  # (B, L, d)
    torch.testing.assert_close(embedding.cluster(IDS), rows.sum(1))


def test_a_zero_cluster_part_leaves_half_of_the_individual_embedding(build):
    embedding = build(cluster_mode="per_id", normalise_cluster=False).item.embedding
    with torch.no_grad():
        embedding.own_rows.weight.zero_()
    torch.testing.assert_close(embedding.snapshot(IDS), 0.5 * embedding.individual(IDS))


def test_normalised_cluster_parts_have_the_learned_length(build):
    norms = build(cluster_mode="per_id").item.embedding.cluster(IDS).norm(dim=1)
    torch.testing.assert_close(norms, torch.full_like(norms, 0.5))
    assert build(cluster_mode="per_id", normalise_cluster=False).item.embedding.cluster(IDS).norm(dim=1).std() > 0.01


def test_orthogonality_is_0_for_orthogonal_and_1_for_parallel_rows():
    axes = torch.eye(4)
    torch.testing.assert_close(squared_cosine(axes[:1], axes[1:2]), torch.zeros(1))
    torch.testing.assert_close(squared_cosine(axes, -3 * axes), torch.ones(4))


def test_orthogonality_ignores_length_and_stays_in_its_range():
    c, d = torch.randn(2, 100, 8).unbind(0)
    loss = squared_cosine(c, d)
    assert loss.min() >= 0 and loss.max() <= 1
    torch.testing.assert_close(loss, squared_cosine(1e3 * c, 1e-2 * d))


def test_orthogonality_of_a_zero_row_is_0_with_finite_gradients():
    c, d = torch.zeros(2, 4, requires_grad=True), torch.randn(2, 4, requires_grad=True)
    loss = squared_cosine(c, d).sum()
    loss.backward()
    assert loss == 0 and torch.isfinite(c.grad).all() and torch.isfinite(d.grad).all()


def test_a_row_without_length_has_no_direction_and_no_gradient():
    rows = torch.stack([torch.zeros(4), torch.full((4,), 1e-10), torch.tensor([3.0, 0.0, 4.0, 0.0])]).requires_grad_()
    directions = unit(rows)
    torch.testing.assert_close(directions[2], torch.tensor([0.6, 0.0, 0.8, 0.0]))
    assert not directions[:2].any()
    directions[:, 0].sum().backward()
    assert not rows.grad[:2].any() and rows.grad[2].any()


def test_orthogonality_may_move_the_individual_rows_alone(build):
    moved = {}
    for stop in (False, True):
        embedding = build(warm=True, orthogonality_stop_cluster=stop).item.embedding
        loss = embedding.orthogonality(IDS)
        loss.backward()
        moved[stop] = {name for name, table in embedding.named_parameters() if table.grad is not None}
    assert moved == {False: {"individual.weight", "own_rows.weight", "prefix_rows.weight"}, True: {"individual.weight"}}


def test_the_gradient_of_orthogonality_matches_finite_differences():
    c, d = torch.randn(2, 5, 4, dtype=torch.float64).unbind(0)
    assert gradcheck(squared_cosine, (c.requires_grad_(), d.requires_grad_()), rtol=1e-6)


def test_orthogonality_counts_a_repeated_id_once(build):
    embedding = build(warm=True).item.embedding
    torch.testing.assert_close(embedding.orthogonality(IDS[:3]), embedding.orthogonality(IDS[[0, 1, 1, 2, 2, 2]]))


def test_the_same_hash_in_two_attribute_columns_has_two_embeddings():
    table = AttributeEmbedding(torch.tensor([[0, 0], [1, 0], [0, 1]]), dim=4)
    first, second, third = table(torch.arange(3))
    assert not torch.equal(first, second) and not torch.equal(second, third)


def test_an_entity_without_attributes_shares_one_attribute_embedding():
    rows = AttributeEmbedding(torch.zeros(3, 0, dtype=torch.int64), dim=4)(torch.arange(3))
    assert torch.equal(rows, rows[:1].expand(3, 4))


def test_ids_without_any_code_make_a_working_embedding(items, batch):
    bare = replace(items, codes=torch.full_like(items.codes, -1))
    model = Ranker(ModelConfig(), bare, bare, seed=1)
    assert model.gate("item") is None and torch.isfinite(model(batch)).all()
    assert model.transfer_losses(torch.Generator(), batch)["transfer_item"] == 0


def test_what_an_id_reads_of_its_prefixes_is_shared_by_as_many_as_asked_for(items, users):
    of = {least: Ranker(ModelConfig(prefix_members=least), items, users, seed=1).item.embedding for least in (0, 12)}
    shown = items.impressions > 0
    rows = of[12].prefixes
    members = torch.bincount(rows[shown].flatten())[1:]
    assert members.min() >= 12 and len(members) + 1 == len(of[12].prefix_rows.weight) < len(of[0].prefix_rows.weight)
    alone = (rows[:, 0] == 0).nonzero()[1:, 0]
    assert torch.equal(of[12].snapshot(alone), of[12].individual(alone)), "no cluster to lean on"


@pytest.mark.parametrize("mode", ["hybrid", "prefix"])
def test_ids_that_are_not_admitted_own_no_row_and_live_on_their_cluster(items, users, mode):
    config = ModelConfig(cluster_mode=mode, transfer=False, item_admission=10)
    embedding = Ranker(config, items, users, seed=1).item.embedding
    rare = (items.impressions < 10) & (items.codes[:, 0] >= 0)
    ids = rare.nonzero()[:, 0]
    admitted = int((items.impressions >= 10).sum())
    assert len(embedding.individual.weight) == admitted + 2, "padding, the admitted, and one row for all others"
    torch.testing.assert_close(embedding.snapshot(ids), embedding.cluster(ids))
    assert len({tuple(row) for row in embedding.individual(ids).tolist()}) == 1
    if mode == "hybrid":
        assert len(embedding.own_rows.weight) == admitted + 1
        with torch.no_grad():
            embedding.own_rows.weight[1:] += 1.0
        torch.testing.assert_close(embedding.cluster(ids), embedding.prefix_rows(embedding.prefixes[ids]))


def test_rare_ids_without_a_code_share_one_learned_embedding(items, users):
    embedding = Ranker(ModelConfig(item_admission=10), items, users, seed=1).item.embedding
    ids = ((items.impressions < 10) & (items.codes[:, 0] < 0)).nonzero()[1:, 0]  # without the padding
    assert len(ids) > 1
    assert torch.equal(embedding.snapshot(ids), embedding.individual.weight[-1].expand(len(ids), -1))
    assert not embedding.snapshot(torch.tensor([0])).any()


def test_codes_of_a_level_share_a_row_whatever_the_codes_before_them(items):
    rows = items.level_codes()
    coded = (items.codes[:, 0] >= 0).nonzero()[:, 0]
    for level in range(rows.shape[1]):
        pairs = {(int(items.codes[i, level]), int(rows[i, level])) for i in coded}
        assert len({row for _, row in pairs}) == len({code for code, _ in pairs}) == len(pairs)
    assert not set(rows[coded, 0].tolist()) & set(rows[coded, 1].tolist())
    assert not rows[items.codes[:, 0] < 0].any()


def test_the_shrinkage_gate_follows_its_formula(build, items):
    model = build(gate="shrinkage", gate_kappa=20.0, gate_floor=0.1)
    n = items.impressions.float()
    expected = torch.where(items.codes[:, 0] >= 0, 0.1 + 0.8 * 20 / (20 + n), 0.0)
    torch.testing.assert_close(model.gate("item"), expected, rtol=1e-4, atol=1e-5)


def test_the_shrinkage_gate_counts_purchases_where_nothing_says_what_was_shown(build, items):
    model = build(gate="shrinkage", gate_kappa=20.0, gate_floor=0.1)
    activity = items.activity.clone()
    activity[:, 2], activity[:, :2] = activity[:, 1], 0.0
    ids = torch.arange(len(activity))
    weight = model.item.embedding.weight(ids, activity)[:, 0]
    torch.testing.assert_close(weight, model.gate("item"), rtol=1e-4, atol=1e-5)


def test_in_a_history_an_id_without_a_row_of_its_own_is_its_cluster(items, users):
    model = Ranker(ModelConfig(item_admission=10), items, users, seed=1)
    entity, embedding = model.item, model.item.embedding
    ids = torch.arange(1, len(items.impressions))
    shown = entity.history(ids, *entity.gather(ids))[:, entity.config.dim :]
    own, coded = items.impressions[ids] >= 10, items.codes[ids, 0] >= 0
    assert (~own & coded).any() and (own & coded).any() and (~own & ~coded).any()
    torch.testing.assert_close(shown[~own & coded], embedding.cluster(ids[~own & coded]))
    torch.testing.assert_close(shown[own | ~coded], embedding.individual(ids[own | ~coded]))


def test_a_history_of_clusters_alone_reads_no_individual_row(build, items):
    entity = build(mix="cluster").item
    ids = (items.codes[:, 0] >= 0).nonzero()[:, 0]
    shown = entity.history(ids, *entity.gather(ids))[:, entity.config.dim :]
    torch.testing.assert_close(shown, entity.embedding.cluster(ids))


def test_agreement_draws_the_rare_to_their_cluster_and_clusters_to_the_frequent(build, items):
    model = build(gate="shrinkage", gate_floor=0.0, gate_kappa=1.0, cluster_mode="prefix", transfer=False)
    embedding = model.item.embedding
    coded = items.codes[:, 0] >= 0
    rare, frequent = (((items.impressions == n) & coded).nonzero()[:, 0] for n in (0, 400))
    for ids, moved, still in ((rare, "individual", "prefix_rows"), (frequent, "prefix_rows", "individual")):
        model.zero_grad()
        embedding.agreement(ids, items.activity[ids]).backward()
        gradient = {name: getattr(embedding, name).weight.grad.to_dense().abs().sum() for name in (moved, still)}
        assert gradient[moved] > 50 * gradient[still]


# id: 0 padding; teacher 1 and student 2 share both prefixes; 3 shares the first code with them; 4 has no teacher near
CODES = torch.tensor([[-1, -1], [0, 0], [0, 0], [0, 1], [1, 0], [0, 1]])
ROLES = torch.tensor([NONE, TEACHER, STUDENT, STUDENT, STUDENT, NONE])


@pytest.mark.parametrize("mode", ["hybrid", "prefix"])
def test_students_do_not_move_the_prefix_rows_of_teachers_where_that_is_blocked(items, users, mode):
    few = {name: getattr(items, name)[:6] for name in ("attributes", "category", "activity", "impressions", "vector")}
    lookup = replace(items, **few, codes=CODES, role=ROLES)
    prefixes = lookup.prefixes()
    rows_of = {i: set(prefixes[i].tolist()) for i in range(6)}

    def moved(ids: list[int], block: bool) -> set[int]:
        config = ModelConfig(cluster_mode=mode, transfer=False, block_tail_prefix=block)
        embedding = Ranker(config, lookup, users, seed=1).item.embedding
        parts = embedding.cluster(torch.tensor(ids))
        torch.testing.assert_close(parts, embedding.prefix_rows(prefixes[ids]), msg="what is read stays the same")
        parts.sum().backward()
        gradient = embedding.prefix_rows.weight.grad.to_dense()
        return set(gradient.any(1).nonzero()[:, 0].tolist())

    assert moved([2, 3, 4], block=False) == rows_of[2] | rows_of[3] | rows_of[4]
    assert moved([2], block=True) == set()
    assert moved([3], block=True) == rows_of[3] - rows_of[1], "rows that no teacher uses still learn"
    assert moved([4], block=True) == rows_of[4]
    assert moved([1], block=True) == rows_of[1] and moved([5], block=True) == rows_of[5]


def test_clicks_on_students_move_no_prefix_row_of_a_teacher_where_that_is_blocked(build, items, batch):
    students = ((items.role == STUDENT) & (items.codes[:, 0] >= 0)).nonzero()[:, 0]
    batch = batch | {"item_idx": students[torch.arange(64) % len(students)]}
    reached = {}
    for block in (False, True):
        model = build(warm=True, block_tail_prefix=block)
        model(batch).sum().backward()
        gradient = model.item.embedding.prefix_rows.weight.grad.to_dense()
        reached[block] = bool(gradient[items.taught(items.prefixes())].any())
    assert reached == {False: True, True: False}
