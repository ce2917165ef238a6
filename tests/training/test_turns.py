"""Several trainings at once: each is trained once, on the ranks of one group, with the result it has alone."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cloudpickle
import horovod
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from akt_spark.config import TrainingConfig
from akt_spark.training import ranks
from akt_spark.training.checkpoint import read_checkpoint
from akt_spark.training.exchange import InlineCommunicator
from akt_spark.training.plan import Plan
from akt_spark.training.turns import none_begun

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # ranks cannot import the tests


def several(plan: Plan, folder: Path, seeds: list[int], **settings: Any) -> Plan:
    """The plan's training with several seeds, on four lanes."""
    settings = {"batch_size": 8, "epochs": 1, "lanes": 4, "curve_steps": 1, "checkpoint_steps": 2} | settings
    tiny = plan.trainings[0]
    trainings = tuple(replace(tiny, seed=seed, folder=str(folder / str(seed))) for seed in seeds)
    log = str(folder / "progress.log")
    folder.mkdir()
    return replace(plan, trainings=trainings, settings=plan.settings.model_copy(update=settings), log=log)


def on_ranks(world: int, plan: Plan) -> list[list[int]]:
    """Trains on Horovod ranks; returns the seeds that each of them has trained. No group has all the work."""

    def rank(plan: Plan) -> list[int]:
        import os
        import time

        from akt_spark.training import ranks
        from akt_spark.training.exchange import GROUPS_WANTED, HorovodCommunicator

        os.environ |= GROUPS_WANTED

        train, trained, begun = ranks._train, [], Path(plan.log).with_name("begun")

        def watched(communicator, plan, training, *lookups):
            deadline = time.monotonic() + 60
            while len(list(begun.iterdir())) < plan.settings.parallel and time.monotonic() < deadline:
                time.sleep(0.01)  # until every group has begun one
            train(communicator, plan, training, *lookups)
            trained.append(training.seed)

        ranks._train = watched
        ranks.train_all(HorovodCommunicator(), plan)
        return trained

    with none_begun(plan):
        return horovod.run(rank, args=(plan,), num_proc=world, use_gloo=True)


def killed_at(step: int) -> Callable[..., None]:
    """A trainer's step that fails at one."""
    train_step = ranks.Trainer.train_step

    def dying(trainer, batches) -> None:
        if trainer.step == step:
            raise KeyboardInterrupt
        train_step(trainer, batches)

    return dying


def weights(plan: Plan, number: int) -> dict[str, torch.Tensor]:
    return load_file(Path(plan.trainings[number].folder, "model", "model.safetensors"))


@pytest.mark.night
def test_two_at_once_end_as_one_after_another_also_when_one_was_killed(plan, tmp_path, monkeypatch) -> None:
    alone = several(plan, tmp_path / "alone", [7, 8, 9])
    ranks.train_all(InlineCommunicator(), alone)

    together = several(plan, tmp_path / "together", [7, 8, 9], ranks=2, parallel=2)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(ranks.Trainer, "train_step", killed_at(3))
        ranks.train_all(InlineCommunicator(), replace(together, settings=alone.settings))
    one, other = on_ranks(2, together)
    assert one and other and sorted(one + other) == [7, 8, 9]
    log = Path(together.log).read_text()
    assert log.count("akt_rec seed 7: goes on after epoch 0 and 2 steps") == 1
    assert all(log.count(f"akt_rec seed {seed}, epoch 1/1: loss") == 1 for seed in (7, 8, 9))
    for number in range(3):
        expected = weights(alone, number)
        assert all(torch.equal(values, expected[name]) for name, values in weights(together, number).items())


@pytest.mark.night
def test_two_at_once_on_two_ranks_each(plan, tmp_path) -> None:
    alone, together = (
        several(plan, tmp_path / "alone", [7, 8, 9]),
        several(plan, tmp_path / "together", [7, 8, 9], ranks=4, parallel=2),
    )
    ranks.train_all(InlineCommunicator(), alone)
    trained = on_ranks(4, together)
    assert trained[0] == trained[1] and trained[2] == trained[3]  # neighbours are a group
    assert trained[0] and trained[2] and sorted(trained[0] + trained[2]) == [7, 8, 9]
    for one, other in zip(alone.trainings, together.trainings, strict=True):
        curves = [read_checkpoint(Path(training.folder, "model")).curve for training in (one, other)]
        assert [point[:2] for point in curves[1]] == [point[:2] for point in curves[0]]
        assert [point[2] for point in curves[1]] == pytest.approx([point[2] for point in curves[0]], abs=1e-5)


def test_ranks_that_cannot_be_parted_are_refused() -> None:
    with pytest.raises(ValidationError, match="parallel 2: ranks 3 cannot be parted equally; set a divisor"):
        TrainingConfig(ranks=3, parallel=2)
    with pytest.raises(ValidationError, match="parallel 2: backend inline is one process; set parallel: 1"):
        TrainingConfig(ranks=2, parallel=2, backend="inline")
    with pytest.raises(ValidationError, match="lanes 3: ranks / parallel 2 cannot share them equally"):
        TrainingConfig(ranks=4, parallel=2, lanes=3)
    assert TrainingConfig(ranks=2, parallel=2).shares == 2  # as one after another
