"""Folders of trainings: whole or not there, resumed with equal results."""

import os
import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from akt_spark.errors import DataError
from akt_spark.training import checkpoint as folders
from akt_spark.training import ranks
from akt_spark.training.checkpoint import atomic_folder, finished, load_ranker, read_checkpoint, saved_steps
from akt_spark.training.exchange import InlineCommunicator
from akt_spark.training.lookup import load_lookup
from akt_spark.training.reader import ordered_batches


class Killed(Exception):
    """Stands for the end of the process."""


def elsewhere(plan, folder: Path):
    return replace(plan, trainings=(replace(plan.trainings[0], folder=str(folder)),))


def lookups(plan):
    return load_lookup(plan.item_files, "item"), load_lookup(plan.user_files, "user")


def untimed(checkpoint):
    return replace(checkpoint, seconds=0, timings=[], peak_gib=0)


def test_a_folder_that_was_not_finished_does_not_exist(tmp_path) -> None:
    with pytest.raises(Killed), atomic_folder(tmp_path / "step-00000001") as folder:
        (folder / "model.safetensors").write_text("half")
        raise Killed
    assert saved_steps(tmp_path) == []
    assert not (tmp_path / "step-00000001").exists()
    with atomic_folder(tmp_path / "step-00000001") as folder:
        (folder / "model.safetensors").write_text("whole")
    assert saved_steps(tmp_path) == [1]
    assert os.listdir(tmp_path) == ["step-00000001"]  # the abandoned one is gone


@pytest.mark.parametrize("found_by", ["a job that starts", "the next to replace it"])
@pytest.mark.parametrize("killed_at", [1, 2])
def test_a_kill_while_a_folder_is_replaced_loses_nothing(tmp_path, monkeypatch, killed_at, found_by) -> None:
    """The first rename sets the old folder aside, the second puts the new one in its place."""
    path = tmp_path / "model"
    with atomic_folder(path) as folder:
        (folder / "weights").write_text("old")
    renames = []

    def replace_or_die(source, target) -> None:
        renames.append(source)
        if len(renames) == killed_at:
            raise Killed
        os.rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(folders.os, "replace", replace_or_die)
        with pytest.raises(Killed), atomic_folder(path) as folder:
            (folder / "weights").write_text("new")
    if found_by == "a job that starts":
        folders.put_back(tmp_path)
    else:
        with pytest.raises(Killed), atomic_folder(path):
            raise Killed
    assert (path / "weights").read_text() == "old"
    with atomic_folder(path) as folder:
        (folder / "weights").write_text("new")
    assert (path / "weights").read_text() == "new"
    assert os.listdir(tmp_path) == ["model"]


def test_half_written_model_is_ignored_by_training_and_loading(plan) -> None:
    training = Path(plan.trainings[0].folder)
    half = training / ".model.123"
    half.mkdir(parents=True)
    (half / "checkpoint.json").write_text("{}")
    assert not finished(training)
    with pytest.raises(DataError, match="no trained model"):
        load_ranker(training / "model", *lookups(plan))
    ranks.train_all(InlineCommunicator(), plan)
    assert finished(training)
    assert not half.exists()


def test_checkpoint_scores_like_the_model_that_was_saved(plan, monkeypatch) -> None:
    kept = {}
    save = folders.save_finished

    def save_and_keep(training, model, checkpoint):
        kept["model"] = model.eval()
        save(training, model, checkpoint)

    monkeypatch.setattr(folders, "save_finished", save_and_keep)
    ranks.train_all(InlineCommunicator(), plan)
    loaded = load_ranker(Path(plan.trainings[0].folder, "model"), *lookups(plan))
    assert not loaded.training
    for batch in ordered_batches(plan.validation, 16, backend="arrow"):
        assert torch.equal(loaded(batch), kept["model"](batch))


def test_best_epoch_on_validation_is_kept(plan, monkeypatch) -> None:
    scores = iter([0.5, 0.9, 0.7])
    measures = lambda *_: {"validation_auc": next(scores), "validation_log_loss": 0.6}  # noqa: E731
    monkeypatch.setattr(ranks, "validate", measures)
    saved = {}
    save = folders.save_step

    def save_and_keep(training, step, model, *rest):
        saved[step // 5] = {name: values.clone() for name, values in model.state_dict().items()}
        save(training, step, model, *rest)

    monkeypatch.setattr(folders, "save_step", save_and_keep)
    ranks.train_all(InlineCommunicator(), plan)
    model = Path(plan.trainings[0].folder, "model")
    checkpoint = read_checkpoint(model)
    assert (checkpoint.epoch, checkpoint.step, checkpoint.metrics["validation_auc"]) == (2, 15, 0.9)
    weights = load_ranker(model, *lookups(plan)).state_dict()
    assert all(torch.equal(weights[name], saved[2][name]) for name in weights)
    assert any(not torch.equal(weights[name], saved[3][name]) for name in weights)


@pytest.mark.parametrize(("patience", "trained"), [(None, 3), (2, 3), (1, 2)])
def test_a_training_that_has_stalled_ends(plan, monkeypatch, patience, trained) -> None:
    scores = iter([0.9, 0.5, 0.4])
    measures = lambda *_: {"validation_auc": next(scores), "validation_log_loss": 0.6}  # noqa: E731
    monkeypatch.setattr(ranks, "validate", measures)
    ranks.train_all(
        InlineCommunicator(), replace(plan, settings=plan.settings.model_copy(update={"patience": patience}))
    )
    checkpoint = read_checkpoint(Path(plan.trainings[0].folder, "model"))
    assert (checkpoint.epoch, checkpoint.step) == (1, 5 * trained)


def test_a_variant_may_have_epochs_of_its_own(plan) -> None:
    (training,) = plan.trainings
    short = replace(training, model=training.model.model_copy(update={"epochs": 1}))
    ranks.train_all(InlineCommunicator(), replace(plan, trainings=(short,)))
    assert read_checkpoint(Path(training.folder, "model")).step == 5


@pytest.mark.parametrize("killed_at", ["in_epoch_2", "before_saving_epoch_2", "before_saving_the_model"])
def test_a_killed_training_resumes_to_bit_equal_results(plan, tmp_path, monkeypatch, killed_at) -> None:
    ranks.train_all(InlineCommunicator(), plan)
    disturbed = elsewhere(plan, tmp_path / "disturbed")
    with monkeypatch.context() as patch:
        patch.setattr(*_kill(killed_at))
        with pytest.raises(Killed):
            ranks.train_all(InlineCommunicator(), disturbed)
    left = [file.suffix for file in Path(disturbed.trainings[0].folder).rglob("*") if file.is_file()]
    assert left
    assert set(left) == {".safetensors", ".json"}  # nothing has to be unpickled
    torch.rand(3)  # a resumed process has another random state
    ranks.train_all(InlineCommunicator(), disturbed)

    one, other = (Path(p.trainings[0].folder, "model") for p in (plan, disturbed))
    first, second = read_checkpoint(one), read_checkpoint(other)
    assert first.curve == second.curve
    assert untimed(first) == untimed(second)
    weights, resumed = (load_ranker(path, *lookups(plan)).state_dict() for path in (one, other))
    assert all(torch.equal(weights[name], resumed[name]) for name in weights)


def _kill(moment: str):
    if moment == "in_epoch_2":
        original = ranks.Trainer.train_step

        def step(self, batches):
            if self.step == 7:
                raise Killed
            original(self, batches)

        return ranks.Trainer, "train_step", step
    if moment == "before_saving_epoch_2":
        save = folders.save_step

        def save_step(training, step, *rest):
            if step == 10:
                raise Killed
            save(training, step, *rest)

        return folders, "save_step", save_step

    def save_finished(*_):
        raise Killed

    return folders, "save_finished", save_finished


def test_only_the_best_and_the_last_epoch_take_space(plan) -> None:
    ranks.train_all(InlineCommunicator(), plan)
    training = Path(plan.trainings[0].folder)
    best = read_checkpoint(training / "model").epoch
    assert saved_steps(training) == sorted({best * 5, 15})


@pytest.mark.parametrize("lanes", [1, 2])
def test_twenty_kills_at_random_steps_change_nothing(plan, tmp_path, monkeypatch, lanes) -> None:
    """Every step takes the same samples again, and the weights are equal to the last bit."""
    settings = plan.settings.model_copy(update={"checkpoint_steps": 2, "batch_size": 16 // lanes, "lanes": lanes})
    plan = replace(plan, settings=settings)
    disturbed = elsewhere(plan, tmp_path / "disturbed")
    original, taken, draw = ranks.Trainer.train_step, {}, random.Random(1)

    def watched(self, batches):
        numbers = [batch["user_activity"][:, 0].tolist() for batch in batches]
        assert taken.setdefault(self.step, numbers) == numbers
        if kills and self.step >= kills[0]:
            raise Killed
        original(self, batches)

    monkeypatch.setattr(ranks.Trainer, "train_step", watched)
    kills: list[int] = []
    ranks.train_all(InlineCommunicator(), plan)
    undisturbed = dict(taken)
    assert len(undisturbed) == 3 * plan.steps
    kills = sorted(draw.randrange(3 * plan.steps) for _ in range(20))
    while kills:
        with pytest.raises(Killed):
            ranks.train_all(InlineCommunicator(), disturbed)
        kills.pop(0)
    ranks.train_all(InlineCommunicator(), disturbed)
    assert taken == undisturbed
    one, other = (Path(p.trainings[0].folder, "model") for p in (plan, disturbed))
    first, second = read_checkpoint(one), read_checkpoint(other)
    assert untimed(first) == untimed(second)
    weights, resumed = (load_ranker(path, *lookups(plan)).state_dict() for path in (one, other))
    assert all(torch.equal(weights[name], resumed[name]) for name in weights)
