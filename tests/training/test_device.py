"""Where ranks compute, and in which precision. There is no GPU here: what would differ on one is pretended."""

from dataclasses import replace

import pytest
import torch

from akt_spark.config import ModelConfig
from akt_spark.errors import ConfigError
from akt_spark.ranker.akt_rec import Ranker
from akt_spark.ranker.presets import PRESETS
from akt_spark.training import ranks
from akt_spark.training.device import device_of, moved
from akt_spark.training.exchange import InlineCommunicator, _Ranks
from akt_spark.training.lookup import load_lookup
from akt_spark.training.loop import Trainer
from akt_spark.training.reader import batches
from training.conftest import TINY


class Alone(_Ranks):
    """Exchanges as ranks do, with nobody."""

    rank, world, local_rank = 0, 1, 0

    def _mean(self, tensor):
        return lambda: tensor

    def _gathered(self, tensor):
        return lambda: tensor

    def broadcast(self, tensors):
        pass

    def _grouped(self, groups):
        return self


def trainer_of(plan, model: ModelConfig = TINY, **settings) -> Trainer:
    ranker = Ranker(model, load_lookup(plan.item_files, "item"), load_lookup(plan.user_files, "user"), seed=7)
    return Trainer(ranker, model, plan.settings.model_copy(update=settings), Alone(), seed=7, total_steps=10)


def steps_of(plan):
    return zip(batches(plan.train, 32, seed=7, epoch=1, shuffle_blocks=2, backend="arrow"))


@pytest.mark.parametrize("preset", PRESETS)
def test_every_ranker_trains_in_bfloat16_with_weights_in_float32(plan, preset) -> None:
    model = ModelConfig.model_validate(TINY.model_dump() | PRESETS[preset].overrides)
    trainer, exact = (trainer_of(plan, model, precision=precision) for precision in ("bf16", "fp32"))
    for one in (trainer, exact):
        one.train_epoch(steps_of(plan))
    assert all(values.dtype != torch.bfloat16 for values in trainer.model.state_dict().values())
    assert all(values.dtype != torch.bfloat16 for values in trainer.optimiser_state().values())
    losses, exact_losses = ([value for _, name, value in one.curve if name == "loss"] for one in (trainer, exact))
    assert losses != exact_losses
    assert losses == pytest.approx(exact_losses, rel=0.02)


def test_a_step_makes_no_tensor_on_another_device_than_its_model(plan) -> None:
    trainer, steps = trainer_of(plan), steps_of(plan)
    trainer.train_step(next(steps))  # the optimisers' state is made
    (batch,) = next(steps)
    with torch.device("meta"):  # what names no device lands there, where it cannot meet what is elsewhere
        trainer.model.zero_grad()
        pulls = trainer._gradients(0, batch, 1.0)
        assert all(pull.device.type == "cpu" for pull in trainer._exchange(pulls))
        trainer.model.zero_grad()
        trainer._exchange([torch.zeros_like(table).to_sparse() for table in trainer.transfer_tables])  # nobody clicked
        trainer.model.refresh_snapshots()
    assert all(values.device.type == "cpu" for values in trainer.model.state_dict().values())


def test_a_rank_takes_the_gpu_of_its_number_on_its_machine(monkeypatch) -> None:
    class Third(InlineCommunicator):
        rank, local_rank = 5, 2

    assert device_of(Third(), "auto") == device_of(Third(), "cpu") == torch.device("cpu")  # there is none here
    with pytest.raises(ConfigError, match=r"training.device is cuda, but rank 5 is number 3 .* sees 0 GPUs"):
        device_of(Third(), "cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert device_of(Third(), "auto") == device_of(Third(), "cuda") == torch.device("cuda", 2)
    assert device_of(Third(), "cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(
        ConfigError, match=r"training.device is auto.*lower training.ranks, or set training.device: cpu"
    ):
        device_of(Third(), "auto")


def test_ranks_refuse_a_device_that_is_not_there(plan) -> None:
    plan = replace(plan, settings=plan.settings.model_copy(update={"device": "cuda"}))
    with pytest.raises(ConfigError, match=r"training.device is cuda, but rank 0 .* sees 0 GPUs"):
        ranks.train_all(InlineCommunicator(), plan)


def test_batches_move_whole(plan) -> None:
    (batch,) = next(steps_of(plan))
    (there,) = moved([batch], torch.device("meta"))
    assert {name: (values.shape, values.dtype) for name, values in there.items()} == {
        name: (values.shape, values.dtype) for name, values in batch.items()
    }
    assert {values.device.type for values in there.values()} == {"meta"}
