from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from akt_spark.config import ModelConfig
from akt_spark.ranker.lookup import NONE, STUDENT, TEACHER
from akt_spark.ranker.transfer import Lesson, TransferSampler, class_balanced_weights, info_nce, transfer_loss
from ranker.conftest import make_lookup


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(11)


def positives_of(lesson: Lesson) -> Tensor:
    """Which teachers share a student's cluster, (S, T) bool."""
    positives = torch.zeros(len(lesson.students), len(lesson.teachers), dtype=torch.bool)
    positives[tuple(lesson.pairs)] = True
    return positives


def own_gradients(model, losses: dict[str, Tensor]) -> dict[str, Tensor]:
    """Dense gradients of every parameter that the losses reach."""
    model.zero_grad()
    sum(losses.values()).backward()
    reached = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {name: grad.to_dense() if grad.is_sparse else grad for name, grad in reached.items()}


@pytest.mark.parametrize("teacher", ["fused", "cluster"])
@pytest.mark.parametrize("mode", ["hybrid", "per_id"])
def test_the_transfer_moves_nothing_but_the_own_rows_of_students(build, items, users, batch, mode, teacher):
    model = build(warm=True, cluster_mode=mode, teacher=teacher)
    gradients = own_gradients(model, model.transfer_losses(generator(), batch))
    for name, lookup in (("item", items), ("user", users)):
        gradient = gradients.pop(f"{name}.embedding.own_rows.weight")
        assert not gradient[lookup.role != STUDENT].any()
        assert gradient[lookup.role == STUDENT].any()
    assert not gradients, "a parameter outside the tables of the transfer has a gradient"


def test_the_transfer_in_training_mode_leaves_the_gate_statistics_alone(build, batch):
    model = build(warm=True).train()
    before = model.item.embedding.gate.norm.running_mean.clone()
    model.transfer_losses(generator(), batch)
    assert torch.equal(model.item.embedding.gate.norm.running_mean, before)


def test_the_gradient_of_heads_is_linear_in_lambda_teacher_and_that_of_tails_does_not_depend_on_it(build, items, batch):
    gradients = []
    for weight in (0.1, 0.2):
        model = build(warm=True, lambda_teacher=weight)
        gradients.append(
            own_gradients(model, model.transfer_losses(generator(), batch))["item.embedding.own_rows.weight"]
        )
    heads, tails = items.role == TEACHER, items.role == STUDENT
    assert gradients[0][heads].any()
    torch.testing.assert_close(2 * gradients[0][heads], gradients[1][heads])
    torch.testing.assert_close(gradients[0][tails], gradients[1][tails])


@pytest.mark.parametrize("overrides", [{}, {"transfer_stop_gradient": False, "lambda_teacher": 0.5}])
def test_the_gradient_of_the_transfer_matches_finite_differences(build, overrides):
    model = build(warm=True, **overrides).double()
    embedding, config, impressions = model.item.embedding, model.config, model.item.impressions
    lesson = model.item.sampler.draw(generator())
    table = embedding.own_rows.weight
    (gradient,) = torch.autograd.grad(transfer_loss(embedding, lesson, impressions, config), table)
    step, moving = 1e-6, lesson.teachers[positives_of(lesson).any(0)] if overrides else lesson.students
    for row, column in [(int(lesson.students[0]), 0), (int(lesson.students[1]), 1), (int(moving[0]), 2)]:
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                table[row, column] += sign * step
                values.append(transfer_loss(embedding, lesson, impressions, config))
                table[row, column] -= sign * step
        expected = gradient.to_dense()[row, column]
        assert expected and (values[0] - values[1]) / (2 * step) == pytest.approx(expected.item(), rel=1e-6, abs=1e-10)


@pytest.mark.parametrize("teacher", ["fused", "cluster"])
@pytest.mark.parametrize("mode", ["hybrid", "per_id"])
def test_without_stop_gradient_teachers_move_with_their_students_and_nothing_else_does(
    build, items, users, batch, mode, teacher
):
    model = build(warm=True, cluster_mode=mode, teacher=teacher, transfer_stop_gradient=False)
    gradients = own_gradients(model, model.transfer_losses(generator(), batch))
    for name, lookup in (("item", items), ("user", users)):
        gradient = gradients.pop(f"{name}.embedding.own_rows.weight")
        assert gradient[lookup.role == STUDENT].any() and gradient[lookup.role == TEACHER].any()
        assert not gradient[lookup.role == NONE].any()
    assert not gradients


def test_one_step_on_the_transfer_alone_brings_students_nearer_to_their_own_teachers(build):
    model = build(warm=True, cluster_mode="per_id")
    embedding = model.item.embedding
    lesson = model.item.sampler.draw(generator())

    def gap() -> Tensor:
        cosine = torch.cosine_similarity(
            embedding.cluster(lesson.students)[:, None], embedding.snapshot(lesson.teachers)[None], dim=-1
        )
        return cosine[positives_of(lesson)].mean() - cosine[~positives_of(lesson)].mean()

    before = gap()
    loss = transfer_loss(embedding, lesson, model.item.impressions, model.config)
    (gradient,) = torch.autograd.grad(loss, embedding.own_rows.weight)
    with torch.no_grad():
        embedding.own_rows.weight.add_(gradient, alpha=-0.05)
    assert gap() > before + 1e-3


def test_the_loss_of_one_anchor_is_the_share_of_its_positives():
    anchor, keys = torch.tensor([[1.0, 0.0]]), torch.tensor([[2.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    loss = info_nce(anchor, keys, torch.tensor([[0, 0], [0, 1]]), torch.ones(1), temperature=0.5)
    e = torch.tensor([2.0, 0.0, -2.0]).exp()
    assert loss.item() == pytest.approx(-torch.log((e[0] + e[1]) / e.sum()).item(), rel=1e-5)


@pytest.mark.parametrize("temperature", [0.01, 0.2])
def test_the_gradients_of_anchors_and_keys_are_those_of_the_loss(temperature):
    anchors, keys = (torch.randn(rows, 4, dtype=torch.float64, requires_grad=True) for rows in (5, 7))
    positives = torch.rand(5, 7) < 0.4
    positives[0], positives[1] = False, True
    weights = torch.rand(5, dtype=torch.float64)

    def loss(anchors: Tensor, keys: Tensor) -> Tensor:
        return info_nce(anchors, keys, positives.nonzero().T, weights, temperature)

    scores = torch.cosine_similarity(anchors[:, None], keys[None], dim=-1) / temperature
    each = scores.logsumexp(1) - scores.masked_fill(~positives, float("-inf")).logsumexp(1)
    taught = positives.any(1)
    torch.testing.assert_close(loss(anchors, keys), (weights * each)[taught].sum() / weights[taught].sum())
    assert torch.autograd.gradcheck(loss, (anchors, keys), atol=1e-6)


def test_anchors_count_by_their_weight_and_not_at_all_without_a_positive():
    anchors, keys = torch.randn(3, 4), torch.randn(5, 4)
    one = info_nce(anchors[0, None], keys, torch.tensor([[0], [0]]), torch.ones(1), 0.2)
    other = info_nce(anchors[1, None], keys, torch.tensor([[0, 0], [1, 2]]), torch.ones(1), 0.2)
    both = info_nce(anchors, keys, torch.tensor([[0, 1, 1], [0, 1, 2]]), torch.tensor([3.0, 1.0, 9.0]), 0.2)
    torch.testing.assert_close(both, (3 * one + other) / 4)


@pytest.mark.parametrize(("anchors", "keys"), [(0, 3), (3, 0), (0, 0), (3, 3)])
def test_the_loss_is_0_with_a_gradient_without_anchors_keys_or_shared_clusters(anchors, keys):
    rows = torch.randn(anchors, 4, requires_grad=True)
    loss = info_nce(rows, torch.randn(keys, 4), torch.zeros(2, 0).long(), torch.ones(anchors), 0.2)
    loss.backward()
    assert loss == 0 and not rows.grad.any()


@pytest.mark.parametrize("length", [0.0, 1e-3, 1e3])
def test_the_loss_is_finite_and_not_negative_at_a_low_temperature_and_any_length(length):
    anchors, keys = (torch.randn(6, 8) * length).requires_grad_(), torch.randn(9, 8) * length
    loss = info_nce(anchors, keys, (torch.rand(6, 9) < 0.3).nonzero().T, torch.ones(6), 0.01)
    loss.backward()
    assert loss >= 0 and torch.isfinite(loss) and torch.isfinite(anchors.grad).all()


def test_an_anchor_without_a_direction_has_no_gradient_beside_others_that_have_one():
    anchors, keys = torch.randn(3, 8), torch.randn(5, 8)
    anchors[0] = 0.0
    anchors.requires_grad_()
    info_nce(anchors, keys, torch.eye(3, 5).nonzero().T, torch.ones(3), 0.01).backward()
    assert not anchors.grad[0].any() and anchors.grad[1:].any(1).all()


def test_one_cluster_that_holds_everything_has_a_loss_of_exactly_0():
    assert info_nce(torch.randn(4, 8), torch.randn(7, 8), torch.ones(4, 7).nonzero().T, torch.ones(4), 0.2) == 0


def test_the_loss_is_computed_in_single_precision_under_autocast():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        pairs = torch.eye(4, 7).nonzero().T
        loss = info_nce(torch.randn(4, 8).bfloat16(), torch.randn(7, 8), pairs, torch.ones(4), 0.2)
    assert loss.dtype == torch.float32


def test_class_balanced_weights_follow_their_formula_and_are_clipped():
    n = torch.tensor([0, 1, 5, 100, 10**9])
    raw = torch.tensor([0.1 / (1 - 0.9 ** max(int(k), 1)) for k in n])
    torch.testing.assert_close(class_balanced_weights(n, 0.9), (raw / raw.mean()).clamp(0.1, 10))
    assert class_balanced_weights(torch.tensor([1] + [10**9] * 99), 0.999).max() == 10
    assert torch.equal(class_balanced_weights(n, 0.0), torch.ones(5))


def roles_and_codes(codes: list[list[int]], roles: list[int]) -> tuple:
    lookup = make_lookup(len(codes), [2, 2], seed=1)
    lookup = replace(lookup, codes=torch.tensor(codes), role=torch.tensor(roles))
    return lookup, lookup.prefixes()


# id: 0 padding; cluster 0-0 has teacher 1 and student 2; 0-1 has student 3 alone; 1-0 has students alone
CODES = [[-1, -1], [0, 0], [0, 0], [0, 1], [1, 0], [1, 0], [2, 0], [2, 1], [0, 1]]
ROLES = [NONE, TEACHER, STUDENT, STUDENT, STUDENT, STUDENT, TEACHER, STUDENT, NONE]


def test_a_student_learns_from_its_longest_prefix_with_a_teacher_and_not_at_all_without_one():
    sampler = TransferSampler(ModelConfig(students_per_step=200, random_teachers=50), *roles_and_codes(CODES, ROLES))
    lesson = sampler.draw(generator())
    assert set(lesson.students.tolist()) == {2, 3, 7}
    assert lesson.teachers.tolist() == [1, 6]
    expected = {2: [True, False], 3: [True, False], 7: [False, True]}
    for student, positives in zip(lesson.students.tolist(), positives_of(lesson).tolist(), strict=True):
        assert positives == expected[student]


def test_a_teacher_of_the_first_code_only_is_no_positive_of_a_student_with_a_longer_shared_prefix():
    codes, roles = [[-1, -1], [0, 0], [0, 1], [0, 0]], [NONE, TEACHER, TEACHER, STUDENT]
    sampler = TransferSampler(ModelConfig(random_teachers=50), *roles_and_codes(codes, roles))
    lesson = sampler.draw(generator())
    assert lesson.teachers.tolist() == [1, 2] and positives_of(lesson)[0].tolist() == [True, False]


def test_students_are_drawn_uniformly_over_clusters_and_then_inside_them():
    codes = [[-1, -1]] + [[0, 0]] * 10 + [[1, 0]] * 2
    roles = [NONE] + [TEACHER] + [STUDENT] * 9 + [TEACHER, STUDENT]
    sampler = TransferSampler(ModelConfig(students_per_step=18_000), *roles_and_codes(codes, roles))
    drawn = torch.bincount(sampler.draw(generator()).students, minlength=13) / 18_000
    torch.testing.assert_close(drawn[2:11], torch.full((9,), 1 / 18), atol=0.01, rtol=0)
    assert drawn[12] == pytest.approx(0.5, abs=0.02)


def test_every_student_has_a_teacher_and_the_generator_decides_the_draw(build):
    sampler = build(teachers_per_cluster=1, random_teachers=1, all_teachers=0).item.sampler
    first, again, other = (sampler.draw(torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert positives_of(first).any(1).all()
    assert torch.equal(first.students, again.students) and torch.equal(first.teachers, again.teachers)
    assert not torch.equal(first.students, other.students)


def test_teachers_of_a_drawn_cluster_are_at_most_as_many_as_configured():
    codes, roles = [[-1, -1]] + [[0, 0]] * 40, [NONE] + [STUDENT] * 10 + [TEACHER] * 30
    config = ModelConfig(teachers_per_cluster=4, random_teachers=1, all_teachers=29)
    lesson = TransferSampler(config, *roles_and_codes(codes, roles)).draw(generator())
    assert 1 <= len(lesson.teachers) <= 5
    shown = config.model_copy(update={"all_teachers": 30})
    lesson = TransferSampler(shown, *roles_and_codes(codes, roles)).draw(generator())
    assert lesson.teachers.tolist() == list(range(11, 41))


@pytest.mark.parametrize("role", [STUDENT, TEACHER, NONE])
def test_a_lesson_is_empty_when_one_side_is_missing_and_its_loss_is_0(build, role):
    model = build(warm=True)
    lookup, prefixes = roles_and_codes(CODES, [role] * len(CODES))
    lesson = TransferSampler(model.config, lookup, prefixes).draw(generator())
    assert len(lesson.students) == 0
    loss = transfer_loss(model.item.embedding, lesson, model.item.impressions, model.config)
    loss.backward()
    assert loss == 0


def test_a_lesson_without_positives_teaches_nothing(build):
    model = build(warm=True)
    lesson = Lesson(torch.tensor([1, 2]), torch.tensor([3]), torch.zeros(2, 0).long())
    assert transfer_loss(model.item.embedding, lesson, model.item.impressions, model.config) == 0


def test_students_and_teachers_of_a_batch_are_those_that_are_in_it(build, items, batch):
    sampler = build().item.sampler
    ids = batch["item_idx"]
    lesson = sampler.of_batch(ids)
    assert set(lesson.teachers.tolist()) == {i for i in ids.tolist() if items.role[i] == TEACHER}
    assert set(lesson.students.tolist()) <= {i for i in ids.tolist() if items.role[i] == STUDENT}
    prefixes = items.prefixes()
    for row, student in enumerate(lesson.students.tolist()):
        level = int(sampler.level[student])
        own = [bool(prefixes[teacher, level] == prefixes[student, level]) for teacher in lesson.teachers]
        assert positives_of(lesson)[row].tolist() == own
    assert positives_of(lesson).any()


def test_a_batch_without_students_teaches_nothing(build, items, batch):
    model = build(warm=True, students="batch")
    heads = (items.role == TEACHER).nonzero()[:, 0]
    loss = model.transfer_losses(generator(), batch | {"item_idx": heads})["transfer_item"]
    assert loss == 0


def test_an_id_that_is_not_admitted_is_no_student(build, items):
    sampler = build(item_admission=3).item.sampler
    assert len(sampler.students) and items.impressions[sampler.students].min() >= 3


@pytest.mark.parametrize("mode", ["hybrid", "per_id"])
def test_ids_never_shown_are_no_students_and_have_no_row_of_their_own_where_that_is_off(build, items, mode):
    model = build(warm=True, cluster_mode=mode, transfer_cold=False)
    sampler, embedding = model.item.sampler, model.item.embedding
    assert items.impressions[sampler.students].tolist() == [3] * len(sampler.students)
    assert (items.impressions[build(warm=True).item.sampler.students] == 0).any()
    assert len(embedding.own_rows.weight) == 1 + int((items.impressions > 0).sum())
    cold = ((items.impressions == 0) & (items.codes[:, 0] >= 0)).nonzero()[:, 0]
    expected = embedding.prefix_rows(embedding.prefixes[cold]) if mode == "hybrid" else torch.zeros(len(cold), 16)
    assert torch.equal(embedding.cluster(cold), expected)
    assert embedding.individual(cold).any(1).all(), "they keep their row d"
