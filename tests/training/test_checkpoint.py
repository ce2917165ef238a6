"""Folders of trainings: whole or not there, resumed with equal results."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from akt_spark.errors import DataError
from akt_spark.training import checkpoint as folders
from akt_spark.training import ranks
from akt_spark.training.checkpoint import atomic_folder, finished, last_epoch, load_ranker, read_checkpoint
from akt_spark.training.exchange import InlineCommunicator
from akt_spark.training.lookup import load_lookup
from akt_spark.training.reader import ordered_batches


class Killed(Exception):
    """Stands for the end of the process."""


def elsewhere(plan, folder: Path):
    return replace(plan, trainings=(replace(plan.trainings[0], folder=str(folder)),))


def lookups(plan):
    return load_lookup(plan.item_files, "item"), load_lookup(plan.user_files, "user")


def test_a_folder_that_was_not_finished_does_not_exist(tmp_path) -> None:
    with pytest.raises(Killed), atomic_folder(tmp_path / "epoch-0001") as folder:
        (folder / "model.safetensors").write_text("half")
        raise Killed
    assert last_epoch(tmp_path) == 0
    assert not (tmp_path / "epoch-0001").exists()
    with atomic_folder(tmp_path / "epoch-0001") as folder:
        (folder / "model.safetensors").write_text("whole")
    assert last_epoch(tmp_path) == 1
    assert os.listdir(tmp_path) == ["epoch-0001"]  # the abandoned one is gone


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
    save = folders.save_epoch

    def save_and_keep(training, epoch, model, *rest):
        saved[epoch] = {name: values.clone() for name, values in model.state_dict().items()}
        save(training, epoch, model, *rest)

    monkeypatch.setattr(folders, "save_epoch", save_and_keep)
    ranks.train_all(InlineCommunicator(), plan)
    model = Path(plan.trainings[0].folder, "model")
    checkpoint = read_checkpoint(model)
    assert (checkpoint.epoch, checkpoint.step, checkpoint.metrics["validation_auc"]) == (2, 15, 0.9)
    weights = load_ranker(model, *lookups(plan)).state_dict()
    assert all(torch.equal(weights[name], saved[2][name]) for name in weights)
    assert any(not torch.equal(weights[name], saved[3][name]) for name in weights)


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
    assert replace(first, seconds=0) == replace(second, seconds=0)
    weights, resumed = (load_ranker(path, *lookups(plan)).state_dict() for path in (one, other))
    assert all(torch.equal(weights[name], resumed[name]) for name in weights)


def _kill(moment: str):
    if moment == "in_epoch_2":
        original = ranks.Trainer.train_step

        def step(self, batch):
            if self.step == 7:
                raise Killed
            original(self, batch)

        return ranks.Trainer, "train_step", step
    if moment == "before_saving_epoch_2":
        save = folders.save_epoch

        def save_epoch(training, epoch, *rest):
            if epoch == 2:
                raise Killed
            save(training, epoch, *rest)

        return folders, "save_epoch", save_epoch

    def save_finished(*_):
        raise Killed

    return folders, "save_finished", save_finished


def test_only_the_best_and_the_last_epoch_take_space(plan) -> None:
    ranks.train_all(InlineCommunicator(), plan)
    training = Path(plan.trainings[0].folder)
    best = read_checkpoint(training / "model").epoch
    assert {folder.name for folder in training.glob("epoch-*")} == {f"epoch-{best:04d}", "epoch-0003"}
