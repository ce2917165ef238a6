"""Which group of ranks trains what, where several trainings run at once: the next one that no group has begun.

So no group waits for slower ones while there is work. A group begins a training by creating a file, which only one of
them can.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from akt_spark.training.exchange import Communicator
from akt_spark.training.plan import Plan, Training


@contextmanager
def none_begun(plan: Plan) -> Iterator[None]:
    """Around a launch: whatever an earlier one has begun, all trainings are free."""
    folder = _begun(plan)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    yield
    shutil.rmtree(folder)


def trainings_of(group: Communicator, plan: Plan) -> Iterator[Training]:
    """The trainings that fall to a group of ranks; with a single group, all."""
    for number, training in enumerate(plan.trainings):
        ours = torch.tensor([group.rank == 0 and _begin(plan, number)], dtype=torch.uint8)
        group.broadcast([ours])
        if ours:
            yield training


def _begin(plan: Plan, number: int) -> bool:
    """Whether a training is this group's, asked by its first rank."""
    if plan.settings.parallel == 1:
        return True
    try:
        (_begun(plan) / str(number)).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def _begun(plan: Plan) -> Path:
    return Path(plan.log).with_name("begun")
