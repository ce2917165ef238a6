from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from akt_spark.config import ModelConfig, RankerConfig
from akt_spark.ranker.akt_rec import Ranker
from akt_spark.ranker.presets import PRESETS, page
from ranker.conftest import BASE, make_batch

RANKERS = RankerConfig(variants={name: {"preset": name} for name in PRESETS})


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def bce(model: Ranker, batch: dict[str, Tensor]) -> Tensor:
    return F.binary_cross_entropy_with_logits(model(batch), batch["label"])


@pytest.mark.parametrize("variant", PRESETS)
def test_every_variant_scores_and_all_its_parameters_can_learn(items, users, batch, variant):
    model = Ranker(RANKERS.variant(variant), items, users, seed=1)
    loss = bce(model, batch) + model.regulariser(batch)
    loss.backward()
    assert model(batch).shape == (64,) and torch.isfinite(loss)
    without = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    assert not without
    assert all(table.grad.is_sparse for table in model.id_tables())


@pytest.mark.parametrize("variant", PRESETS)
def test_what_users_clicked_until_the_end_of_training_reaches_no_score_but_the_paper_s(items, users, batch, variant):
    later = replace(users.with_random_codes(), vector=torch.randn_like(users.vector))
    seen, unseen = (Ranker(RANKERS.variant(variant), items, of, seed=1) for of in (later, users))
    unseen.load_state_dict(seen.state_dict())
    assert torch.equal(seen.eval()(batch), unseen.eval()(batch)) == (variant != "paper")


def test_an_entity_whose_codes_are_not_read_has_no_gate_to_show(build):
    model = build(codes_of=["item"])
    assert model.gate("item") is not None and model.gate("user") is None


@pytest.mark.parametrize("variant", PRESETS)
def test_every_parameter_belongs_to_one_optimiser(items, users, variant):
    model = Ranker(RANKERS.variant(variant), items, users, seed=1)
    grouped = [id(p) for p in (*model.id_tables(), *model.dense_parameters())]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters())
    assert {id(p) for p in model.transfer_tables()} <= {id(p) for p in model.id_tables()}


def test_the_same_seed_gives_the_same_model_and_leaves_the_global_random_state(build):
    state = torch.get_rng_state()
    first, second, other = build(seed=4), build(seed=4), build(seed=5)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(first.item.embedding.individual.weight, other.item.embedding.individual.weight)


@pytest.mark.parametrize("variant", PRESETS)
def test_a_saved_model_scores_the_same_after_loading(items, users, batch, variant):
    config = RANKERS.variant(variant)
    model = Ranker(config, items, users, seed=1)
    for _ in range(3):
        model(batch)  # moves the BatchNorm statistics
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    model.refresh_snapshots()
    other = Ranker(config, items, users, seed=2)
    other.load_state_dict(model.state_dict())
    assert torch.equal(model.eval()(batch), other.eval()(batch))


def test_the_checkpoint_holds_snapshots_and_statistics_but_no_lookup(build, items):
    state = build().state_dict()
    assert {"item.means.bank", "user.means.bank", "item.embedding.gate.norm.running_mean"} <= set(state)
    assert "item.embedding.scaler.mean" in state
    assert not [name for name, value in state.items() if value.shape in (items.vector.shape, items.codes.shape)]


def test_a_sample_scores_the_same_alone_and_in_a_batch(build, batch):
    model = build(warm=True).eval()
    alone = torch.cat([model({name: value[i : i + 1] for name, value in batch.items()}) for i in range(8)])
    torch.testing.assert_close(model(batch)[:8], alone)


def test_more_padding_changes_nothing(build, batch):
    model = build(warm=True).eval()
    padded = batch | {"history": F.pad(batch["history"], (0, 15))}
    torch.testing.assert_close(model(batch), model(padded))


def test_entries_beyond_recent_count_only_when_they_share_the_first_code(build, items, batch):
    model = build(warm=True, recent=5).eval()
    before = model(batch)
    target = items.codes[batch["item_idx"], 0]
    shares = (items.codes[batch["history"], 0] == target[:, None]) & (target >= 0)[:, None]
    replacement = torch.where(shares, batch["history"], 0)
    unrelated = torch.cat([batch["history"][:, :5], replacement[:, 5:]], 1)
    torch.testing.assert_close(model(batch | {"history": unrelated}), before)
    related = torch.cat([batch["history"][:, :5], torch.where(shares, 0, batch["history"])[:, 5:]], 1)
    changed = (model(batch | {"history": related}) - before).abs() > 1e-6
    assert changed.any() and not changed[~shares[:, 5:].any(1)].any()


def test_a_sample_has_no_gradient_on_ids_that_it_does_not_hold(build, batch):
    model = build(warm=True)
    bce(model.eval(), {name: value[:1] for name, value in batch.items()}).backward()
    held = {int(batch["item_idx"][0])}
    own = model.item.embedding.own_rows.weight.grad.to_dense()
    assert set(own.any(1).nonzero()[:, 0].tolist()) <= held
    held |= set(batch["history"][0].tolist())
    individual = model.item.embedding.individual.weight.grad.to_dense()
    assert set(individual.any(1).nonzero()[:, 0].tolist()) <= held
    users = model.user.embedding.individual.weight.grad.to_dense()
    assert users.any(1).nonzero()[:, 0].tolist() == [int(batch["user_idx"][0])]


def test_the_gate_of_a_sample_reads_its_own_activity_and_not_that_of_the_lookup(build, items, batch):
    entity = build(warm=True).eval().item
    ids, activity = batch["item_idx"], batch["item_activity"]
    own = entity.embedding.individual(ids)
    fused = entity.blocks(ids, activity, *entity.gather(ids))[-1]
    weight = entity.embedding.weight(ids, activity)
    torch.testing.assert_close(fused, weight * entity.embedding.cluster(ids) + (1 - weight) * own)
    later = entity.blocks(ids, items.activity[ids], *entity.gather(ids))[-1]
    assert not torch.allclose(fused, later, atol=1e-6)


def test_no_sample_reads_the_statistics_of_the_end_of_training(items, users, batch):
    """They are of the training samples' future: only gates of others, students and cluster weights may know them."""
    config = ModelConfig(cluster_mode="none", transfer=False, orthogonality=0.0)
    later = replace(items, activity=items.activity.clone())
    later.activity[:, :] += torch.randn(items.activity.shape)
    scores = []
    for lookup in (items, later):
        model = Ranker(config, lookup, users, seed=1).eval()
        model.load_state_dict(scores[0][1] if scores else model.state_dict())
        scores.append((model(batch), model.state_dict()))
    assert torch.equal(scores[0][0], scores[1][0])


def test_a_new_model_already_has_cluster_means(build):
    model = build()
    before = model.item.means.bank.clone(), model.user.means.bank.clone()
    assert before[0].any() and before[1].any()
    model.refresh_snapshots()
    assert torch.equal(model.item.means.bank, before[0]) and torch.equal(model.user.means.bank, before[1])


def test_cluster_means_follow_the_tables_only_when_they_are_refreshed(build, batch):
    model = build(warm=True).eval()
    before = model.item.means.bank.clone()
    with torch.no_grad():
        model.item.embedding.individual.weight[1:] += 1.0
    model(batch)
    assert torch.equal(model.item.means.bank, before)
    model.refresh_snapshots()
    assert not torch.equal(model.item.means.bank, before)


def test_rows_absent_from_the_batch_stay_bit_identical_under_the_lazy_optimiser_and_drift_under_dense_adam(build):
    first, second = make_batch(8, 40, 60, 5, seed=1), make_batch(8, 40, 60, 5, seed=2)
    second["history"].zero_()

    def drift(lazy: bool) -> bool:
        model = build(warm=True)
        table = model.item.embedding.individual.weight
        optimiser = (torch.optim.SparseAdam if lazy else torch.optim.Adam)([table], lr=0.01)
        for step, batch in enumerate((first, second)):
            before = table.detach().clone()
            model.zero_grad()
            bce(model, batch).backward()
            table.grad = table.grad if lazy else table.grad.to_dense()
            optimiser.step()
            if step:
                absent = torch.ones(len(table), dtype=torch.bool)
                absent[second["item_idx"]] = False
                return not torch.equal(table[absent], before[absent])
        raise AssertionError

    assert not drift(lazy=True)
    assert drift(lazy=False)


def test_hybrid_without_any_code_is_base(items, users, batch):
    items, users = (replace(lookup, codes=torch.full_like(lookup.codes, -1)) for lookup in (items, users))
    base = Ranker(ModelConfig(**BASE), items, users, seed=1).eval()
    hybrid = Ranker(ModelConfig(**{**BASE, "cluster_mode": "hybrid"}), items, users, seed=2).eval()
    missing, unexpected = hybrid.load_state_dict(base.state_dict(), strict=False)
    assert missing and not unexpected
    assert torch.equal(hybrid(batch), base(batch))


def test_with_empty_cluster_parts_and_a_constant_gate_every_embedding_is_half_of_that_of_base(items, users, batch):
    alike = BASE | {"history_embedding": "fused", "codes_of": ["item", "user"]}
    base = Ranker(ModelConfig(**alike), items, users, seed=1).eval()
    config = ModelConfig(**alike | {"cluster_mode": "per_id", "normalise_cluster": False, "gate": "constant"})
    gated = Ranker(config, items, users, seed=2).eval()
    missing, unexpected = gated.load_state_dict(base.state_dict(), strict=False)
    assert not unexpected and all("own_rows" in name for name in missing)
    with torch.no_grad():
        for entity in (gated.item, gated.user):
            entity.embedding.own_rows.weight.zero_()
            entity.embedding.individual.weight.mul_(2.0)
    assert torch.equal(gated(batch), base(batch))


def test_base_knows_nothing_of_codes(items, users, batch):
    base = Ranker(ModelConfig(**BASE), items, users, seed=1).eval()
    shuffled = Ranker(ModelConfig(**BASE, codes="random"), items, users, seed=1).eval()
    assert torch.equal(base(batch), shuffled(batch))
    assert base.gate("item") is None and base.gate("user") is None
    assert (
        base.regulariser(batch) == 0 and base.transfer_losses(generator(), batch) == {} and base.transfer_tables() == []
    )


def test_codes_of_another_codebook_stand_in_for_those_of_items(items, users, batch):
    other = items.with_random_codes()
    named = replace(items, other_codes={"kmeans": other.codes})
    one = Ranker(ModelConfig(codes="kmeans"), named, users, seed=1).eval()
    two = Ranker(ModelConfig(), other, users, seed=1).eval()
    assert torch.equal(one(batch), two(batch))
    assert not torch.equal(one(batch), Ranker(ModelConfig(), named, users, seed=1).eval()(batch))
    with pytest.raises(ValueError, match=r"codes 'kmeans' are not in the look-up of items: \['category'\]"):
        Ranker(ModelConfig(codes="kmeans"), replace(items, other_codes={"category": other.codes}), users, seed=1)


def test_ids_and_lookups_without_codes_attributes_or_vectors_are_scored(items, users, batch):
    bare = [
        replace(
            lookup,
            codes=torch.full_like(lookup.codes, -1),
            vector=torch.zeros_like(lookup.vector),
            attributes=lookup.attributes[:, :0],
        )
        for lookup in (items, users)
    ]
    model = Ranker(ModelConfig(), *bare, seed=1)
    loss = bce(model, batch) + model.regulariser(batch) + sum(model.transfer_losses(generator(), batch).values())
    loss.backward()
    assert torch.isfinite(loss)


def test_unknown_users_items_and_empty_histories_are_scored(build, batch):
    model = build(warm=True).eval()
    unknown = {name: torch.zeros_like(value) for name, value in batch.items()}
    assert torch.isfinite(model(unknown)).all()


# what the training loop reads; the model does not
LOOP_KEYS = {
    "transfer_optimiser",
    "transfer_learning_rate",
    "transfer_weight",
    "transfer_warmup",
    "snapshot_steps",
    "epochs",
    "pretrain_epochs",
    "learning_rate",
    "id_learning_rate",
}
EFFECTS: list[tuple[str, Any, dict[str, Any]]] = [
    ("dim", 8, {}),
    ("hidden", [32], {}),
    ("dropout", 0.5, {}),
    ("recent", 3, {}),
    ("searched", 1, {}),
    ("recent_pooling", "mean", {}),
    ("attention_hidden", 8, {}),
    ("attention_activation", "dice", {}),
    ("attention_softmax", False, {}),
    ("hard_search", "category", {}),
    ("hard_search", "none", {"aggregation": False}),
    ("history_embedding", "fused", {}),
    ("statistics", False, {}),
    ("tower", "experts", {}),
    ("tower", "poso", {}),
    ("experts", 2, {"tower": "experts"}),
    ("wide", True, {}),
    ("id_dropout", 0.5, {}),
    ("id_dropout_below", 10, {}),
    ("tail_preference", 1.0, {}),
    ("cluster_mode", "per_id", {}),
    ("cluster_mode", "codes", {"transfer": False}),
    ("prefix_members", 12, {}),
    ("mix", "sum", {}),
    ("mix", "cluster", {}),
    ("gate", "constant", {}),
    ("gate", "shrinkage", {}),
    ("gate_kappa", 5.0, {"gate": "shrinkage"}),
    ("activity_dropout", 0.5, {}),
    ("monotone_prior", 1.0, {}),
    ("block_tail_prefix", True, {}),
    ("content_start", True, {}),
    ("item_admission", 10, {}),
    ("user_admission", 10, {}),
    ("agreement", 0.1, {}),
    ("aligned_content", True, {}),
    ("cluster_mode", "prefix", {"transfer": False}),
    ("cluster_mode", "none", {"transfer": False, "orthogonality": 0.0}),
    ("normalise_cluster", False, {"cluster_mode": "per_id"}),
    ("gate_floor", 0.4, {}),
    ("codes", "random", {}),
    ("codes_of", ["item"], {}),
    ("codes_of", ["user"], {}),
    ("transfer", False, {}),
    ("transfer_cold", False, {}),
    ("transfer_stop_gradient", False, {}),
    ("teacher", "cluster", {}),
    ("lambda_student", 0.5, {}),
    ("lambda_teacher", 0.1, {}),
    ("transfer_temperature", 0.5, {}),
    ("students", "batch", {}),
    ("students_per_step", 16, {}),
    ("teachers_per_cluster", 1, {"random_teachers": 2, "all_teachers": 0}),
    ("random_teachers", 2, {"teachers_per_cluster": 1, "all_teachers": 0}),
    ("all_teachers", 0, {"teachers_per_cluster": 1, "random_teachers": 2}),
    ("class_balance", 0.0, {}),
    ("orthogonality", 0.1, {}),
    ("orthogonality_stop_cluster", True, {}),
    ("aggregation", False, {}),
    ("aggregation_gate", "constant", {}),
    ("aggregation_gate", "instance", {}),
    ("aggregation_gate", "cluster", {}),
    ("cluster_means", "live", {}),
    ("residual_instance", False, {}),
    ("content", [], {}),
    ("content", ["item", "interest"], {}),
    ("match_counts", ["sid"], {}),
    ("match_counts", ["item", "category"], {}),
    ("content_branch", "trained", {}),
    ("content_branch", "frozen", {"content_branch": "trained", "pretrain_epochs": 1}),
]


@pytest.mark.parametrize(("key", "value", "others"), EFFECTS, ids=[f"{key}={value}" for key, value, _ in EFFECTS])
def test_a_changed_key_changes_scores_losses_or_gradients(build, batch, key, value, others):
    def results(overrides: dict[str, Any]) -> list[list[float]]:
        model = build(warm=True, **overrides)
        torch.manual_seed(0)
        losses = [bce(model, batch), model.regulariser(batch), *model.transfer_losses(generator(), batch).values()]
        sum(losses).backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        gradients = [(grad.to_dense() if grad.is_sparse else grad).abs().sum() for grad in gradients]
        return [tensor.detach().flatten().tolist() for tensor in (*losses, model.eval()(batch), *gradients)]

    before = results(others)
    assert results(others) == before != results(others | {key: value})


def test_every_key_of_the_model_is_shown_to_have_an_effect():
    assert {key for key, _, _ in EFFECTS} | LOOP_KEYS == set(ModelConfig.model_fields)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"cluster_mode": "prefix"}, "cluster_mode prefix has none: set transfer: false"),
        ({"cluster_mode": "none"}, "cluster_mode none has none"),
        ({"cluster_mode": "none", "transfer": False}, "set orthogonality: 0.0"),
        ({"agreement": 0.1, "mix": "sum"}, "set agreement: 0.0, or mix: gate"),
        ({"activity_dropout": 0.1, "gate": "constant"}, "set activity_dropout: 0.0, or gate: learned"),
        ({"monotone_prior": 0.1, "mix": "cluster"}, "set monotone_prior: 0.0, or gate: learned"),
        ({"block_tail_prefix": True, "cluster_mode": "per_id"}, "set block_tail_prefix: false"),
        ({"prefix_members": 3, "cluster_mode": "per_id", "transfer": False}, "set prefix_members: 0"),
        ({"pretrain_epochs": 2}, "set pretrain_epochs: 0, or content_branch: trained"),
        ({"content_branch": "frozen"}, "set pretrain_epochs, or content_branch: trained"),
        ({"hard_search": "none"}, "set hard_search: sid or category"),
        ({"cluster_mode": "per_id", "item_admission": 5}, "set item_admission and user_admission to 0"),
    ],
)
def test_losses_without_parameters_are_refused_with_the_remedy(overrides, message):
    with pytest.raises(ValueError, match=message):
        ModelConfig(**overrides)


def test_akt_rec_as_configured_by_default_is_the_recommended_preset():
    assert RANKERS.variant("recommended") == ModelConfig()


def test_every_rival_is_a_model_of_its_own():
    models = [RANKERS.variant(name).model_dump_json() for name in PRESETS]
    assert len(set(models)) == len(models)


def test_what_comes_with_a_preset_goes_on_top_and_its_page_is_current():
    rankers = RankerConfig(model={"dim": 8}, variants={"narrow": {"preset": "din", "recent": 5}})
    model = rankers.variant("narrow")
    assert (model.dim, model.recent, model.hard_search) == (8, 5, "none")
    assert Path("docs/rivals.md").read_text() == page() + "\n"


def test_the_paper_s_tower_reads_the_fused_view_alone(items, users, batch):
    model = Ranker(RANKERS.variant("paper"), items, users, seed=1).eval()
    seen = []
    model.tower.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model.fusion.register_forward_hook(lambda *hooked: seen.append(hooked[-1]))
    model(batch)
    fused, read = seen
    assert torch.equal(fused, read)
    assert read.shape[1] == 7 * model.config.dim  # attributes and embeddings of both, attention, statistics of both


def test_an_unknown_preset_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match=r"variants.x: preset='dine' is unknown, there are .*din.*prefix_residual"):
        RankerConfig(variants={"x": {"preset": "dine"}})


def test_a_side_whose_codes_are_not_read_has_rows_of_its_ids_alone_and_learns_nothing_from_others(build, batch):
    model = build(codes_of=["item"], activity_dropout=0.1, monotone_prior=0.1, agreement=0.1)
    names = {name for name, _ in model.named_parameters()}
    assert "item.embedding.own_rows.weight" in names and "item.embedding.prefix_rows.weight" in names
    assert {name for name in names if name.startswith("user.embedding")} == {"user.embedding.individual.weight"}
    assert list(model.transfer_losses(generator(), batch)) == ["transfer_item"]
    assert model.transfer_tables() == [model.item.embedding.own_rows.weight] and model.gate("user") is None
    model.train()
    (model(batch).sum() + model.regulariser(batch)).backward()
