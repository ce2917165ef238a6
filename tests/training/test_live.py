"""What is measured and told of a training while it runs."""

import re
import time
from dataclasses import replace
from pathlib import Path

import pytest

from akt_spark.training import ranks
from akt_spark.training.checkpoint import load_ranker, read_checkpoint
from akt_spark.training.exchange import InlineCommunicator
from akt_spark.training.lookup import load_lookup
from akt_spark.training.pace import Pace
from akt_spark.training.reader import batches

LINE = re.compile(
    r"akt_rec seed 7, epoch (\d)/3, step (\d)/5: (loss \d\.\d{4}, )?[\d,]+ samples/s, "
    r"reader wait [\d.]+%, 0:00:\d\d left"
)


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """The time, which passes only when a test says so."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_time_until_samples_are_there_is_told_from_that_of_the_step(clock) -> None:
    def slow_reader():
        for step in range(3):
            clock[0] += 1
            yield step
        clock[0] += 2  # rows that fill no step

    def save() -> None:
        clock[0] += 50

    pace, seen = Pace(), []
    for step in pace.timed(slow_reader(), save):
        seen.append(step)
        clock[0] += 4
    assert seen == [0, 1, 2]
    assert (pace.steps, pace.seconds, pace.waited) == (3, 3 * (1 + 4) + 2, 3 * 1 + 2)
    assert pace.reader_wait == 5 / 17
    assert Pace().reader_wait == 0


def with_settings(plan, folder: str | None = None, **settings):
    (training,) = plan.trainings
    training = replace(training, folder=folder or training.folder)
    return replace(plan, trainings=(training,), settings=plan.settings.model_copy(update=settings))


def test_lines_tell_where_a_training_is(plan) -> None:
    ranks.train_all(InlineCommunicator(), with_settings(plan, progress_seconds=1e-9))
    lines = Path(plan.log).read_text().splitlines()
    found = [LINE.fullmatch(line) for line in lines]
    assert [match.groups()[:2] for match in found if match] == [
        (str(epoch), str(step)) for epoch in (1, 2, 3) for step in range(1, 6)
    ]
    assert [match[3] is not None for match in found if match][:4] == [False, True, False, True]  # curve_steps is 2
    ends = [line for line in lines if re.search(r"epoch \d/3: loss .*validation AUC .*reader wait [\d.]+%$", line)]
    assert len(ends) == 3
    assert len(lines) == 18


def test_a_line_comes_only_when_its_time_has_come(plan, clock, monkeypatch) -> None:
    step = ranks.Trainer.train_step

    def slow_step(self, batches):
        clock[0] += 3
        step(self, batches)

    monkeypatch.setattr(ranks.Trainer, "train_step", slow_step)
    ranks.train_all(InlineCommunicator(), with_settings(plan, progress_seconds=10))
    lines = [line for line in Path(plan.log).read_text().splitlines() if "left" in line]
    assert [line.split(":")[0] for line in lines] == [
        f"akt_rec seed 7, epoch {epoch}/3, step 4/5" for epoch in (1, 2, 3)
    ]
    assert lines[0].endswith(f"{4 * 32 / 12:,.0f} samples/s, reader wait 0.0%, 0:00:33 left")  # 11 steps of 3 seconds


def test_reader_wait_and_speed_are_kept_for_every_epoch(plan, clock, monkeypatch) -> None:
    """A reader that takes one second, and a step that takes three."""

    def slow_batches(*args, **kwargs):
        for batch in batches(*args, **kwargs):
            clock[0] += 1
            yield batch

    step = ranks.Trainer.train_step

    def slow_step(self, batches):
        clock[0] += 3
        step(self, batches)

    monkeypatch.setattr(ranks, "batches", slow_batches)
    monkeypatch.setattr(ranks.Trainer, "train_step", slow_step)
    ranks.train_all(InlineCommunicator(), plan)
    checkpoint = read_checkpoint(Path(plan.trainings[0].folder, "model"))
    expected = [
        (step, name, value)
        for step in (5, 10, 15)
        for name, value in (("samples_per_second", 8), ("reader_wait", 0.25))
    ]
    assert [tuple(point) for point in checkpoint.timings] == expected
    assert checkpoint.reader_wait == 0.25


def test_what_is_told_changes_nothing(plan, tmp_path) -> None:
    silent, talking = (
        with_settings(plan, str(tmp_path / name), progress_seconds=seconds)
        for name, seconds in (("silent", 3600), ("talking", 1e-9))
    )
    states = []
    for told in (silent, talking):
        ranks.train_all(InlineCommunicator(), told)
        lookups = load_lookup(plan.item_files, "item"), load_lookup(plan.user_files, "user")
        states.append(load_ranker(Path(told.trainings[0].folder, "model"), *lookups).state_dict())
    assert all((states[0][name] == states[1][name]).all() for name in states[0])
