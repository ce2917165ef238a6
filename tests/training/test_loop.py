"""The training loop on a tiny AKT-Rec."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from akt_spark.errors import AktError
from akt_spark.ranker.akt_rec import Ranker
from akt_spark.training.exchange import InlineCommunicator
from akt_spark.training.lookup import load_lookup
from akt_spark.training.loop import Trainer
from akt_spark.training.plan import Plan
from akt_spark.training.reader import batches
from training.conftest import TINY

GOLDEN = Path(__file__).parent / "golden_losses.json"


def trainer_of(plan: Plan, **overrides) -> Trainer:
    settings = TINY.model_copy(update=overrides)
    items, users = load_lookup(plan.item_files, "item"), load_lookup(plan.user_files, "user")
    model = Ranker(settings, items, users, seed=7)
    return Trainer(model, settings, plan.settings, InlineCommunicator(), seed=7, total_steps=10)


def epoch_of(plan: Plan, epoch: int = 1):
    """For every step the batch of the only lane."""
    return zip(batches(plan.train, 32, seed=7, epoch=epoch, shuffle_blocks=2, backend="arrow"))


def test_loss_falls(plan) -> None:
    faster = plan.settings.model_copy(update={"curve_steps": 5, "learning_rate": 0.01, "id_learning_rate": 0.05})
    trainer = trainer_of(replace(plan, settings=faster))
    for epoch in range(1, 9):
        trainer.train_epoch(epoch_of(plan, epoch))
    losses = [value for _, name, value in trainer.curve if name == "loss"]
    assert len(losses) == 8
    assert losses[-1] < losses[0] - 0.02


def test_rows_of_absent_ids_stay_bit_identical_after_steps_that_gave_them_momentum(plan) -> None:
    trainer = trainer_of(plan, transfer=False)
    (first,), (second,), *_ = epoch_of(plan)
    trainer.train_step([first])  # gives momentum to the users of the first batch
    table = trainer.model.user.embedding.individual.weight
    before = table.detach().clone()
    only_one = {name: values[:1] for name, values in second.items()}
    trainer.model.eval()  # a batch of one has no batch statistics
    trainer.train_step([only_one])
    changed = (table != before).any(1).nonzero()[:, 0].tolist()
    assert changed == [int(second["user_idx"][0])]
    assert len(set(first["user_idx"].tolist()) - set(changed)) > 3


def test_transfer_moves_tables_by_its_own_rate_and_warms_up(plan) -> None:
    """Without click gradients a step of the transfer is -rate * warm-up * gradient."""
    trainer = trainer_of(plan, transfer_warmup=1.0)  # 10 steps of warm-up
    trainer.training = plan.settings
    table = trainer.model.item.embedding.own_rows.weight
    before = table.detach().clone()
    (batch,) = next(epoch_of(plan))
    loss = trainer.model.transfer_losses(Trainer._generator(_at_step(trainer, 1), 0), batch)
    (gradient,) = torch.autograd.grad(loss["transfer_item"], [table])
    trainer.step = 0
    trainer.lazy_adam.step = lambda: None  # only the transfer
    trainer.adam.step = lambda: None
    trainer.train_step(next(epoch_of(plan)))
    expected = before - 0.5 * (1 / 10) * gradient.to_dense()
    assert torch.allclose(table, expected, atol=1e-7)
    assert not torch.equal(table, before)


def test_a_transfer_that_shares_the_optimiser_of_the_tables_moves_students_outside_the_batch(plan) -> None:
    moved = {}
    for weight in (0.0, 0.01):
        trainer = trainer_of(plan, transfer_optimiser="tables", transfer_weight=weight)
        table = trainer.model.item.embedding.own_rows.weight
        before, (batch,) = table.detach().clone(), next(epoch_of(plan))
        trainer.train_step([batch])
        rows = (table != before).any(1).nonzero()[:, 0]
        moved[weight] = set(rows.tolist()) - set(batch["item_idx"].tolist())
    assert moved[0.01] and not moved[0.0]


def _at_step(trainer: Trainer, step: int) -> Trainer:
    trainer.step = step
    return trainer


def test_curve_has_a_mean_of_every_loss_each_curve_steps(plan) -> None:
    trainer = trainer_of(plan)
    trainer.train_epoch(epoch_of(plan))
    steps = {step for step, _, _ in trainer.curve}
    assert steps == {2, 4, 5}  # every 2 steps, and the end of the epoch
    assert {name for _, name, _ in trainer.curve} == {"loss", "orthogonality", "transfer_item", "transfer_user"}


def test_cluster_means_are_fresh_at_the_end_of_an_epoch(plan) -> None:
    trainer = trainer_of(plan, snapshot_steps=1000)
    trainer.train_epoch(epoch_of(plan))
    bank = trainer.model.item.means.bank.clone()
    trainer.model.refresh_snapshots()
    assert torch.equal(bank, trainer.model.item.means.bank)


def test_divergence_is_an_error_that_names_the_learning_rates(plan) -> None:
    plan = replace(plan, settings=plan.settings.model_copy(update={"learning_rate": 1e30, "curve_steps": 1}))
    trainer = trainer_of(plan)
    with pytest.raises(AktError, match=r"diverged.*training.learning_rate"):
        trainer.train_epoch(epoch_of(plan))


@pytest.mark.parametrize("overrides", [{"transfer": False}, {"aggregation": False}, {"cluster_mode": "none"}])
def test_variants_train_with_the_same_loop(plan, overrides) -> None:
    if overrides.get("cluster_mode") == "none":
        overrides |= {"transfer": False, "orthogonality": 0.0, "aggregation": False, "content": []}
    trainer = trainer_of(plan, **overrides)
    trainer.train_epoch(epoch_of(plan))
    assert trainer.step == 5


def test_rates_rise_over_the_warm_up(plan) -> None:
    warm = plan.settings.model_copy(update={"warmup_steps": 4, "learning_rate": 0.1, "id_learning_rate": 0.4})
    trainer = trainer_of(replace(plan, settings=warm))
    seen = []
    for batches_ in epoch_of(plan):
        trainer.train_step(batches_)
        seen.append([optimiser.param_groups[0]["lr"] for optimiser in (trainer.adam, trainer.lazy_adam)])
    expected = [(0.025, 0.1), (0.05, 0.2), (0.075, 0.3), (0.1, 0.4), (0.1, 0.4)]
    assert seen == [pytest.approx(rates) for rates in expected]


def test_a_variant_may_have_rates_of_its_own(plan) -> None:
    trainer = trainer_of(plan, id_learning_rate=0.4)
    (batch,), *_ = epoch_of(plan)
    trainer.train_step([batch])
    rates = [optimiser.param_groups[0]["lr"] for optimiser in (trainer.adam, trainer.lazy_adam)]
    assert rates == [plan.settings.learning_rate, 0.4]
    assert trainer_of(plan, learning_rate=0.3).rates == (0.3, plan.settings.id_learning_rate)


def test_losses_are_those_on_record(plan) -> None:
    """Whatever changes them changes what every night trains: it should be meant. Recorded on one core, in float32."""
    trainer = trainer_of(replace(plan, settings=plan.settings.model_copy(update={"curve_steps": 1})))
    trainer.train_epoch(epoch_of(plan))
    losses = {name: [value for _, of, value in trainer.curve if of == name] for name in ("loss", "transfer_item")}
    golden = json.loads(GOLDEN.read_text())
    assert losses.keys() == golden.keys()
    for name, values in losses.items():
        assert values == pytest.approx(golden[name], abs=1e-4), json.dumps(losses)
