"""A training that goes on with other numbers of ranks: the same samples in the same order, the same losses."""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import cloudpickle
import horovod
import pytest
from pydantic import ValidationError

from akt_spark.config import TrainingConfig
from akt_spark.training.checkpoint import read_checkpoint
from akt_spark.training.exchange import Communicator, InlineCommunicator
from akt_spark.training.plan import Plan

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # ranks cannot import the tests

Seen = dict[tuple[int, int], list[float]]


def train_until(communicator: Communicator, plan: Plan, stop: int | None) -> Seen:
    """Trains up to a step, where the rank ends; returns the numbers of samples by step and lane."""
    from akt_spark.training import ranks

    class Stopped(Exception):
        pass

    class Watched(ranks.Trainer):
        def train_step(self, batches):
            if self.step == stop:
                raise Stopped
            for lane, batch in zip(self.lanes, batches, strict=True):
                seen[self.step, lane] = batch["user_activity"][:, 0].tolist()
            super().train_step(batches)

    seen: Seen = {}
    ranks.Trainer, trainer = Watched, ranks.Trainer
    try:
        with suppress(Stopped):  # the rank has come to its step
            ranks.train_all(communicator, plan)
    finally:
        ranks.Trainer = trainer
    return seen


def on_ranks(world: int, plan: Plan, stop: int | None) -> Seen:
    """`train_until` on as many Horovod ranks."""

    def rank(plan: Plan, stop: int | None) -> Seen:
        from akt_spark.training.exchange import HorovodCommunicator

        return train_until(HorovodCommunicator(), plan, stop)

    found = horovod.run(rank, args=(plan, stop), num_proc=world, use_gloo=True)
    assert len(found) == world
    return {place: numbers for seen in found for place, numbers in seen.items()}


@pytest.mark.night
def test_stopped_on_two_ranks_resumed_on_one_and_finished_on_four(plan, tmp_path) -> None:
    settings = plan.settings.model_copy(update={"lanes": 4, "batch_size": 8, "checkpoint_steps": 2, "curve_steps": 1})
    plan = replace(plan, settings=settings)
    disturbed = replace(plan, trainings=(replace(plan.trainings[0], folder=str(tmp_path / "disturbed")),))
    expected = train_until(InlineCommunicator(), plan, None)
    assert len(expected) == 3 * plan.steps * 4

    parts = [
        on_ranks(2, disturbed, 7),
        train_until(InlineCommunicator(), disturbed, 11),
        on_ranks(4, disturbed, None),
    ]
    assert [min(step for step, _ in part) for part in parts] == [0, 6, 10]  # from the last checkpoint on
    for part in parts:
        assert part == {place: expected[place] for place in part}
    assert set().union(*parts) == set(expected)

    one, other = (read_checkpoint(Path(p.trainings[0].folder, "model")) for p in (plan, disturbed))
    assert [point[:2] for point in one.curve] == [point[:2] for point in other.curve]
    assert [point[2] for point in other.curve] == pytest.approx([point[2] for point in one.curve], abs=1e-5)


def test_lanes_that_ranks_cannot_share_are_refused() -> None:
    with pytest.raises(ValidationError, match="lanes 3: ranks 2 cannot share them equally; set a multiple of ranks"):
        TrainingConfig(ranks=2, lanes=3)
    assert TrainingConfig(ranks=2).shares == 2
    assert TrainingConfig(ranks=2, lanes=4).shares == 4
