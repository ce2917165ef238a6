"""The training loop: one for every variant (method.md 5.7).

What a step computes is a function of weights, seed, step and its lanes' batches alone: every lane draws its own dropout
and students and normalises by its own batch, and gradients and batch statistics are means over the lanes. So a kill
changes nothing, and another number of ranks no more than the rounding of sums.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from akt_spark.config import ModelConfig, TrainingConfig
from akt_spark.errors import AktError
from akt_spark.training.device import autocast
from akt_spark.training.exchange import Communicator
from akt_spark.training.order import lanes_of

Point = tuple[int, str, float]


class Trainer:
    """Trains one ranker on one rank, in step with the others.

    Three optimisers, because zero gradient must mean "unchanged" for an ID that a batch does not hold, and because
    Adam would give a row that only the transfer touches the same step whatever the transfer weighs (method.md 13.1):

    - dense layers: Adam;
    - ID tables, click and orthogonality loss: lazy Adam on sparse gradients;
    - transfer tables, transfer loss: plain SGD with a learning rate of its own and a linear warm-up (or, with
      ``transfer_optimiser: tables``, the lazy Adam of the click loss).

    The first ``pretrain_steps`` train the model's branch of content alone, by its own log loss; what does not learn in
    a step is not touched by its optimiser, whose state then starts with the phase in which it does.

    Attributes:
        device: where the model is, and batches must be.
        lanes: the lanes of this rank.
        step: optimiser steps taken.
        curve: (step, metric, mean over the ranks and over the steps since the last point).
    """

    def __init__(
        self,
        model: nn.Module,
        settings: ModelConfig,
        training: TrainingConfig,
        communicator: Communicator,
        seed: int,
        total_steps: int,
        pretrain_steps: int = 0,
    ) -> None:
        self.model, self.settings, self.training = model, settings, training
        self.communicator, self.seed = communicator, seed
        self.device = next(model.parameters()).device
        self.lanes = lanes_of(communicator.rank, communicator.world, training.shares)
        self.warmup_steps = max(1, round(settings.transfer_warmup * total_steps))
        self.pretrain_steps = pretrain_steps
        self.dense_parameters = model.dense_parameters()
        self.branch = list(model.content_branch.parameters()) if model.content_branch is not None else []
        self.id_tables, self.transfer_tables = model.id_tables(), model.transfer_tables()
        self.rates = (
            settings.learning_rate or training.learning_rate,
            settings.id_learning_rate or training.id_learning_rate,
        )
        self.adam = torch.optim.Adam(self.dense_parameters, lr=self.rates[0])
        self.lazy_adam = torch.optim.SparseAdam(self.id_tables, lr=self.rates[1])
        norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm1d)]
        self.statistics = [values for norm in norms for values in (norm.running_mean, norm.running_var)]
        self.step = 0
        self.curve: list[Point] = []
        self._sums: dict[str, float] = {}
        self._summed = 0
        self.start_equal()

    def start_equal(self) -> None:
        """Every rank starts from the weights and optimiser state of rank 0."""
        state = list(self.model.state_dict().values())
        for optimiser in self._optimisers().values():
            state += [value for slot in optimiser.state.values() for value in slot.values() if torch.is_tensor(value)]
        self.communicator.broadcast(state)

    def train_epoch(
        self, steps: Iterable[Sequence[dict[str, Tensor]]], save: Callable[[], None] = lambda: None
    ) -> None:
        """Takes one step after another, or the rest of an epoch. Afterwards all ranks hold the same model.

        Args:
            steps: for every step one batch of each of this rank's lanes; all ranks must hold equally many steps.
            save: called every ``training.checkpoint_steps`` steps.
        """
        self.model.train()
        for batches in steps:
            self.train_step(batches)
            if self.step % self.training.curve_steps == 0:
                self._record()
            if self.step % self.settings.snapshot_steps == 0:
                self.model.refresh_snapshots()
            if self.training.checkpoint_steps and self.step % self.training.checkpoint_steps == 0:
                self._sums = dict(zip(self._sums, self._means_of_ranks(self._sums.values()), strict=True))
                save()
        self._record()
        self.model.refresh_snapshots()

    def train_step(self, batches: Sequence[dict[str, Tensor]]) -> None:
        """One step of all three optimisers, from gradients at the same weights."""
        self.step += 1
        self.model.zero_grad(set_to_none=True)
        of_phase = self.step if self.pretraining else self.step - self.pretrain_steps
        warmth, pulls = min(1.0, of_phase / self.warmup_steps), []
        before = [values.clone() for values in self.statistics]
        after = [torch.zeros_like(values) for values in self.statistics]
        for lane, batch in zip(self.lanes, batches, strict=True):
            for values, earlier in zip(self.statistics, before, strict=True):
                values.copy_(earlier)
            pulls.append(self._gradients(lane, batch, warmth))
            for total, values in zip(after, self.statistics, strict=True):
                total.add_(values, alpha=1 / len(self.lanes))
        for values, mean in zip(self.statistics, after, strict=True):
            values.copy_(mean)
        pulled = self._exchange([sum(of_lanes[1:], of_lanes[0]) for of_lanes in zip(*pulls, strict=True)])
        for optimiser, rate in zip(self._optimisers().values(), self.rates, strict=True):
            for group in optimiser.param_groups:
                group["lr"] = rate * min(1.0, of_phase / max(1, self.training.warmup_steps))
            optimiser.step()
        rate = self.settings.transfer_learning_rate * warmth
        with torch.no_grad():
            for table, pull in zip(self.transfer_tables, pulled, strict=False):
                table.add_(pull, alpha=-rate)

    @property
    def pretraining(self) -> bool:
        """Whether the step that is taken trains the branch of content alone."""
        return 0 < self.step <= self.pretrain_steps

    def _gradients(self, lane: int, batch: dict[str, Tensor], warmth: float) -> Sequence[Tensor]:
        """Adds the gradients of a lane's batch; returns those of the transfer, where it has an optimiser of its own."""
        torch.manual_seed(self._mixed(lane))  # dropout
        share = 1 / len(self.lanes)
        if self.pretraining:
            with autocast(self.device, self.training.precision):
                logits = self.model.content_branch(batch)
            loss = F.binary_cross_entropy_with_logits(logits.float(), batch["label"])
            (share * loss).backward()
            self._add({"pretraining_loss": loss})
            return ()
        with autocast(self.device, self.training.precision):
            logits, regulariser = self.model(batch), self.model.regulariser(batch)
        click_loss = F.binary_cross_entropy_with_logits(logits.float(), batch["label"])
        transfers = self.model.transfer_losses(self._generator(lane), batch)
        joined = self.settings.transfer_optimiser == "tables"
        transfer = self.settings.transfer_weight * warmth * sum(transfers.values()) if joined else 0.0
        (share * (click_loss + regulariser + transfer)).backward()
        self._add({"loss": click_loss, "orthogonality": regulariser, **transfers})
        if not transfers or joined:
            return ()
        return torch.autograd.grad(share * sum(transfers.values()), self.transfer_tables)

    def _generator(self, lane: int) -> torch.Generator:
        """Draws the students of this step and lane."""
        return torch.Generator().manual_seed(self._mixed(lane, 1))

    def _mixed(self, *numbers: int) -> int:
        """One well-mixed seed of the step and what tells its uses apart."""
        mixed = np.random.SeedSequence((self.seed, self.step, *numbers))
        return int(mixed.generate_state(1, np.uint64)[0]) >> 1

    def _exchange(self, pulls: Sequence[Tensor]) -> list[Tensor]:
        """Averages gradients and batch statistics over the ranks; returns the gradients of the transfer."""
        learning = self._learning()
        for parameter in learning:
            if parameter.grad is None:  # ranks must exchange equally much
                parameter.grad = torch.zeros_like(parameter)
        dense = [*(parameter.grad for parameter in learning), *self.statistics]
        if self.pretraining:
            self.communicator.average(dense)
            return []
        clicks = [_no_rows(table) if table.grad is None else table.grad for table in self.id_tables]
        averaged = self.communicator.average_gradients(dense, [*clicks, *pulls])
        for table, gradient in zip(self.id_tables, averaged, strict=False):
            table.grad = gradient
        return averaged[len(self.id_tables) :]

    def _learning(self) -> list[nn.Parameter]:
        """The dense parameters that learn in this step."""
        if self.pretraining:
            return self.branch
        still = {id(parameter) for parameter in self.branch} if self.settings.content_branch == "frozen" else set()
        return [parameter for parameter in self.dense_parameters if id(parameter) not in still]

    def _add(self, values: dict[str, Tensor]) -> None:
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value.item()
        self._summed += 1

    def _record(self) -> None:
        """Adds a point of every loss to the curve."""
        if self._summed:
            means = self._means_of_ranks(total / self._summed for total in self._sums.values())
            points = dict(zip(self._sums, means, strict=True))
            if not all(map(math.isfinite, means)):
                raise AktError(
                    f"training diverged by step {self.step}: {points}; lower training.learning_rate, "
                    "training.id_learning_rate or ranker.model.transfer_learning_rate"
                )
            self.curve += [(self.step, name, value) for name, value in points.items()]
            self._sums, self._summed = {}, 0

    def _means_of_ranks(self, values: Iterable[float]) -> list[float]:
        means = torch.tensor(list(values), dtype=torch.float64)
        self.communicator.average([means])
        return means.tolist()

    def optimiser_state(self) -> dict[str, Tensor]:
        """``adam/3/exp_avg`` of the fourth parameter of `adam`, and so on."""
        return {
            f"{name}/{parameter}/{entry}": torch.as_tensor(value).contiguous()
            for name, optimiser in self._optimisers().items()
            for parameter, slot in optimiser.state_dict()["state"].items()
            for entry, value in slot.items()
        }

    def progress(self) -> dict[str, Any]:
        """What else a resume needs, as JSON has it."""
        return {"step": self.step, "curve": self.curve, "sums": self._sums, "summed": self._summed}

    def resume(self, weights: dict[str, Tensor], optimisers: dict[str, Tensor], progress: dict[str, Any]) -> None:
        """Goes back to a step that was saved."""
        self.model.load_state_dict(weights)
        for name, optimiser in self._optimisers().items():
            slots: dict[int, dict[str, Tensor | int]] = {}
            for path, value in optimisers.items():
                of, parameter, entry = path.split("/")
                if of == name:  # lazy Adam counts in plain integers
                    slots.setdefault(int(parameter), {})[entry] = value if value.is_floating_point() else value.item()
            optimiser.load_state_dict({"state": slots, "param_groups": optimiser.state_dict()["param_groups"]})
        self.step, self._sums, self._summed = progress["step"], progress["sums"], progress["summed"]
        self.curve = [tuple(point) for point in progress["curve"]]
        self.start_equal()

    def _optimisers(self) -> dict[str, torch.optim.Optimizer]:
        return {"adam": self.adam, "lazy_adam": self.lazy_adam}


def _no_rows(table: Tensor) -> Tensor:
    """A sparse gradient of a table that no sample used."""
    rows, values = table.new_empty(1, 0, dtype=torch.int64), table.new_empty(0, table.shape[1])
    return torch.sparse_coo_tensor(rows, values, table.shape, device=table.device)
