"""Epochs before the first that train the branch of content alone."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from akt_spark.ranker.akt_rec import Ranker
from akt_spark.training import ranks
from akt_spark.training.checkpoint import load_ranker, read_checkpoint
from akt_spark.training.exchange import InlineCommunicator
from akt_spark.training.lookup import load_lookup
from akt_spark.training.loop import Trainer
from akt_spark.training.plan import Plan
from training.conftest import TINY
from training.test_loop import epoch_of

EPOCHS = {"content_branch": "trained", "pretrain_epochs": 2, "activity_dropout": 0.3, "attention_activation": "dice"}


@pytest.fixture
def make(plan: Plan) -> Plan:
    """Two epochs of content alone, three of everything, of 5 steps each."""
    (training,) = plan.trainings
    return replace(plan, trainings=(replace(training, model=TINY.model_copy(update=EPOCHS)),))


def trainer_of(plan: Plan, **overrides) -> Trainer:
    """One that takes 5 steps of content alone."""
    settings = TINY.model_copy(update=EPOCHS | overrides)
    items, users = load_lookup(plan.item_files, "item"), load_lookup(plan.user_files, "user")
    model = Ranker(settings, items, users, seed=7)
    return Trainer(model, settings, plan.settings, InlineCommunicator(), seed=7, total_steps=10, pretrain_steps=5)


def weights_of(trainer: Trainer) -> dict[str, torch.Tensor]:
    """Parameters, statistics and cluster means by name."""
    return {name: values.clone() for name, values in trainer.model.state_dict().items()}


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, values in before.items() if not torch.equal(values, after[name])}


def test_the_first_epochs_train_the_branch_and_leave_all_else_bit_identical(plan) -> None:
    faster = replace(plan, settings=plan.settings.model_copy(update={"learning_rate": 0.01, "curve_steps": 1}))
    trainer = trainer_of(faster)
    before = weights_of(trainer)
    trainer.train_epoch(epoch_of(plan))
    of_branch = {f"content_branch.{name}" for name, _ in trainer.model.content_branch.named_parameters()}
    assert changed(before, weights_of(trainer)) == of_branch
    losses = [value for _, name, value in trainer.curve]
    assert {name for _, name, _ in trainer.curve} == {"pretraining_loss"} and losses[-1] < losses[0]


@pytest.mark.parametrize(("kind", "moves"), [("trained", True), ("frozen", False)])
def test_then_everything_learns_from_its_first_step_on_and_a_frozen_branch_stays(plan, kind, moves) -> None:
    warm = plan.settings.model_copy(update={"warmup_steps": 4, "learning_rate": 0.1})
    trainer = trainer_of(replace(plan, settings=warm), content_branch=kind)
    trainer.train_epoch(epoch_of(plan))
    before = weights_of(trainer)
    trainer.train_step(next(epoch_of(plan, 2)))
    moved = changed(before, weights_of(trainer))
    assert {"tower.out.weight", "item.embedding.individual.weight"} <= moved
    assert any("content_branch" in name for name in moved) is moves
    tower = trainer.adam.state[trainer.model.tower.out.weight]
    assert tower["step"] == 1, "its moments are not those of steps in which it did not learn"
    assert trainer.adam.param_groups[0]["lr"] == pytest.approx(0.1 / 4), "and its warm-up starts here"


def test_no_epoch_of_content_alone_is_the_best_nor_ends_a_training(make, monkeypatch) -> None:
    scores = iter([0.9, 0.8, 0.5, 0.6, 0.4])
    judged = []

    def validate(model, *_):
        judged.append(type(model).__name__)
        return {"validation_auc": next(scores), "validation_log_loss": 0.6}

    monkeypatch.setattr(ranks, "validate", validate)
    patient = replace(make, settings=make.settings.model_copy(update={"patience": 1}))
    ranks.train_all(InlineCommunicator(), patient)
    checkpoint = read_checkpoint(Path(make.trainings[0].folder, "model"))
    assert judged == ["ContentBranch"] * 2 + ["Ranker"] * 3
    assert (checkpoint.epoch, checkpoint.step, checkpoint.metrics["validation_auc"]) == (4, 25, 0.6)
    measured = {name: [step for step, of, _ in checkpoint.curve if of == name] for _, name, _ in checkpoint.curve}
    assert measured["pretraining_auc"] == [5, 10] and measured["validation_auc"] == [15, 20, 25]
    said = Path(make.log).read_text().splitlines()
    assert "epoch 2/5 (content alone): loss" in said[1] and "epoch 3/5: loss" in said[2]


def test_kills_in_both_phases_change_nothing(make, tmp_path, monkeypatch) -> None:
    settings = make.settings.model_copy(update={"checkpoint_steps": 2, "batch_size": 16, "lanes": 2})
    plan = replace(make, settings=settings)
    disturbed = replace(plan, trainings=(replace(plan.trainings[0], folder=str(tmp_path / "disturbed")),))
    ranks.train_all(InlineCommunicator(), plan)
    original, draw = Trainer.train_step, random.Random(2)
    kills = sorted(draw.sample(range(25), 3))
    assert kills[0] < 10 < kills[-1]

    class Killed(Exception):
        pass

    def step(self, batches):
        if kills and self.step >= kills[0]:
            kills.pop(0)
            raise Killed
        original(self, batches)

    monkeypatch.setattr(Trainer, "train_step", step)
    while kills:
        with pytest.raises(Killed):
            ranks.train_all(InlineCommunicator(), disturbed)
    ranks.train_all(InlineCommunicator(), disturbed)
    one, other = (Path(p.trainings[0].folder, "model") for p in (plan, disturbed))
    first, second = (replace(read_checkpoint(each), seconds=0, peak_gib=0, timings=[]) for each in (one, other))
    assert first == second
    lookups = load_lookup(plan.item_files, "item"), load_lookup(plan.user_files, "user")
    weights, resumed = (load_ranker(path, *lookups).state_dict() for path in (one, other))
    assert not changed(weights, resumed)
