"""Two real ranks of Horovod and of torch, as tasks of the tests' Spark session."""

import sys
from dataclasses import replace
from pathlib import Path

import cloudpickle
import pyspark.cloudpickle
import pytest
import torch

from akt_spark.training.checkpoint import finished, load_ranker, read_checkpoint
from akt_spark.training.exchange import Communicator
from akt_spark.training.launch import launch
from akt_spark.training.lookup import load_lookup
from akt_spark.training.plan import Plan

for pickler in (cloudpickle, pyspark.cloudpickle):  # Horovod's and Spark's: ranks cannot import the tests
    pickler.register_pickle_by_value(sys.modules[__name__])


def train_and_tell(communicator: Communicator, plans: list[Plan]) -> tuple[list[list[float]], list[torch.Tensor]]:
    """Trains plan after plan; returns the numbers of the samples of every step of this rank, and its last weights."""
    from akt_spark.training import ranks

    seen, ends = [], []
    read, compare = ranks.batches, ranks.require_equal

    def batches(*args, **kwargs):
        for batch in read(*args, **kwargs):
            seen.append(batch["user_activity"][:, 0].tolist())
            yield batch

    def require_equal(communicator, tensors):
        ends[:] = [tensor.clone() for tensor in tensors]
        compare(communicator, tensors)

    ranks.batches, ranks.require_equal = batches, require_equal
    for plan in plans:
        ranks.train_all(communicator, plan)
    return seen, ends


def test_two_ranks_see_different_data_resume_and_end_with_equal_weights(spark, plan) -> None:
    settings = plan.settings.model_copy(update={"ranks": 2, "reader": "petastorm", "batch_size": 16})
    one_epoch, two_epochs = (
        replace(plan, settings=settings.model_copy(update={"epochs": epochs})) for epochs in (1, 2)
    )
    (seen, weights), (other_seen, other_weights) = launch(spark, train_and_tell, ([one_epoch, two_epochs],), 2)
    steps = 178 // 2 // 16
    assert len(seen) == len(other_seen) == 2 * steps  # one epoch, then the second one: the first was not repeated
    for epoch in (slice(0, steps), slice(steps, None)):
        numbers, others = ({number for step in rank[epoch] for number in step} for rank in (seen, other_seen))
        assert len(numbers) == len(others) == steps * 16
        assert not numbers & others
    assert all(torch.equal(one, other) for one, other in zip(weights, other_weights, strict=True))

    output = Path(plan.log).read_text()
    assert output.count("akt_rec seed 7: goes on after epoch 1") == 1  # one rank speaks
    assert output.count("akt_rec seed 7, epoch 2/2: loss") == 1
    folder = Path(plan.trainings[0].folder)
    assert finished(folder)
    assert read_checkpoint(folder / "model").samples == 2 * steps * 2 * 16
    ranker = load_ranker(folder / "model", load_lookup(plan.item_files, "item"), load_lookup(plan.user_files, "user"))
    assert all(values.isfinite().all() for values in ranker.state_dict().values())


@pytest.mark.night
def test_ranks_of_torch_train_as_those_of_horovod_do(spark, plan, tmp_path) -> None:
    settings = plan.settings.model_copy(update={"ranks": 2, "batch_size": 16, "epochs": 1, "curve_steps": 1})
    plan = replace(plan, settings=settings)
    curves, seen = {}, {}
    for backend in ("horovod", "torch"):
        folder = str(tmp_path / backend)
        of_backend = replace(plan, trainings=(replace(plan.trainings[0], folder=folder),))
        results = launch(spark, train_and_tell, ([of_backend],), 2, backend)
        seen[backend] = [samples for samples, _ in results]
        curves[backend] = read_checkpoint(Path(folder, "model")).curve
    assert seen["torch"] == seen["horovod"]
    assert [point[:2] for point in curves["torch"]] == [point[:2] for point in curves["horovod"]]
    for (*place, one), (*_, other) in zip(curves["torch"], curves["horovod"], strict=True):
        assert abs(one - other) < 1e-6, place
