"""Two real Horovod ranks, as tasks of the tests' Spark session."""

import sys
from dataclasses import replace
from pathlib import Path

import cloudpickle
import torch

from akt_spark.training.checkpoint import finished, load_ranker, read_checkpoint
from akt_spark.training.exchange import Communicator
from akt_spark.training.launch import launch
from akt_spark.training.lookup import load_lookup
from akt_spark.training.plan import Plan

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # ranks cannot import the tests


def train_and_tell(communicator: Communicator, plan: Plan) -> tuple[list[float], list[torch.Tensor], int]:
    """Trains, and returns the numbers of the samples that this rank saw, its last weights and its steps."""
    from akt_spark.training import ranks

    seen, ends = [], []
    read, compare = ranks.batches, ranks.require_equal

    def batches(*args, **kwargs):
        for batch in read(*args, **kwargs):
            seen.append(batch["user_activity"][:, 0].tolist())
            yield batch

    def require_equal(communicator, tensors):
        ends.extend(tensor.clone() for tensor in tensors)
        compare(communicator, tensors)

    ranks.batches, ranks.require_equal = batches, require_equal
    ranks.train_all(communicator, plan)
    return [number for batch in seen for number in batch], ends, len(seen)


def test_two_ranks_see_different_data_and_end_with_equal_weights(spark, plan, capfd) -> None:
    settings = plan.settings.model_copy(update={"epochs": 2, "reader": "petastorm", "batch_size": 16})
    plan = replace(plan, settings=settings)
    (seen, weights, steps), (other_seen, other_weights, other_steps) = launch(spark, train_and_tell, (plan,), 2)
    assert steps == other_steps == 2 * (178 // 2 // 16)
    per_epoch = len(seen) // 2
    for epoch in (slice(0, per_epoch), slice(per_epoch, None)):
        assert not set(seen[epoch]) & set(other_seen[epoch])
    assert all(torch.equal(one, other) for one, other in zip(weights, other_weights, strict=True))
    assert capfd.readouterr().out.count("akt_rec seed 7, epoch 2/2: loss") == 1  # one rank speaks

    folder = Path(plan.trainings[0].folder)
    assert finished(folder)
    assert read_checkpoint(folder / "model").samples == 2 * 2 * 5 * 16
    ranker = load_ranker(folder / "model", load_lookup(plan.item_files, "item"), load_lookup(plan.user_files, "user"))
    assert all(values.isfinite().all() for values in ranker.state_dict().values())
