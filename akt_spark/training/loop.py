"""The training loop: one for every variant (method.md 5.7)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from akt_spark.config import ModelConfig, TrainingConfig
from akt_spark.errors import AktError
from akt_spark.training.exchange import Communicator

Point = tuple[int, str, float]


class Trainer:
    """Trains one ranker on one rank, in step with the others.

    Three optimisers, because zero gradient must mean "unchanged" for an ID that a batch does not hold, and because
    Adam would give a row that only the transfer touches the same step whatever the transfer weighs (method.md 13.1):

    - dense layers: Adam;
    - ID tables, click and orthogonality loss: lazy Adam on sparse gradients;
    - transfer tables, transfer loss: plain SGD with a learning rate of its own and a linear warm-up (or, with
      ``transfer_optimiser: tables``, the lazy Adam of the click loss).

    Attributes:
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
    ) -> None:
        self.model, self.settings, self.training = model, settings, training
        self.communicator, self.seed = communicator, seed
        self.warmup_steps = max(1, round(settings.transfer_warmup * total_steps))
        self.dense_parameters = model.dense_parameters()
        self.id_tables, self.transfer_tables = model.id_tables(), model.transfer_tables()
        self.adam = torch.optim.Adam(self.dense_parameters, lr=training.learning_rate)
        self.lazy_adam = torch.optim.SparseAdam(self.id_tables, lr=training.id_learning_rate)
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

    def train_epoch(self, epoch: int, batches: Iterable[dict[str, Tensor]]) -> None:
        """Takes one step a batch; all ranks must hold equally many. Afterwards all ranks hold the same model."""
        torch.manual_seed(_mixed(self.seed, epoch, self.communicator.rank))  # dropout, also after a resume
        self.model.train()
        for batch in batches:
            self.train_step(batch)
            if self.step % self.training.curve_steps == 0:
                self._record()
            if self.step % self.settings.snapshot_steps == 0:
                self._refresh()
        self._record()
        self._refresh()

    def train_step(self, batch: dict[str, Tensor]) -> None:
        """One step of all three optimisers, from gradients at the same weights."""
        self.step += 1
        self.model.zero_grad(set_to_none=True)
        click_loss = F.binary_cross_entropy_with_logits(self.model(batch), batch["label"])
        regulariser = self.model.regulariser(batch)
        transfers = self.model.transfer_losses(self._generator(), batch)
        warmth, joined = min(1.0, self.step / self.warmup_steps), self.settings.transfer_optimiser == "tables"
        transfer = self.settings.transfer_weight * warmth * sum(transfers.values()) if joined else 0.0
        (click_loss + regulariser + transfer).backward()
        apart = bool(transfers) and not joined
        pulls = torch.autograd.grad(sum(transfers.values()), self.transfer_tables) if apart else ()
        pulls = self._exchange(pulls)
        self.adam.step()
        self.lazy_adam.step()
        rate = self.settings.transfer_learning_rate * warmth
        with torch.no_grad():
            for table, pull in zip(self.transfer_tables, pulls, strict=False):
                table.add_(pull, alpha=-rate)
        self._add({"loss": click_loss, "orthogonality": regulariser, **transfers})

    def _generator(self) -> torch.Generator:
        """Draws the students of this step: other ones on every rank, the same ones after a resume."""
        return torch.Generator().manual_seed(_mixed(self.seed, self.step, self.communicator.rank))

    def _exchange(self, pulls: Sequence[Tensor]) -> list[Tensor]:
        """Averages all gradients over the ranks; returns those of the transfer."""
        for parameter in self.dense_parameters:
            if parameter.grad is None:  # ranks must exchange equally much
                parameter.grad = torch.zeros_like(parameter)
        self.communicator.average([parameter.grad for parameter in self.dense_parameters])
        clicks = [_no_rows(table) if table.grad is None else table.grad for table in self.id_tables]
        averaged = self.communicator.average_sparse([*clicks, *pulls])
        for table, gradient in zip(self.id_tables, averaged, strict=False):
            table.grad = gradient
        return averaged[len(self.id_tables) :]

    def _refresh(self) -> None:
        """Averages the statistics that each rank took of its own batches, then renews the cluster means."""
        norms = [module for module in self.model.modules() if isinstance(module, nn.BatchNorm1d)]
        if norms:
            self.communicator.average([values for norm in norms for values in (norm.running_mean, norm.running_var)])
        self.model.refresh_snapshots()

    def _add(self, values: dict[str, Tensor]) -> None:
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value.item()
        self._summed += 1

    def _record(self) -> None:
        """Adds a point of every loss to the curve."""
        if self._summed:
            means = torch.tensor([total / self._summed for total in self._sums.values()], dtype=torch.float64)
            self.communicator.average([means])
            points = dict(zip(self._sums, means.tolist(), strict=True))
            if not means.isfinite().all():
                raise AktError(
                    f"training diverged by step {self.step}: {points}; lower training.learning_rate, "
                    "training.id_learning_rate or ranker.model.transfer_learning_rate"
                )
            self.curve += [(self.step, name, value) for name, value in points.items()]
            self._sums, self._summed = {}, 0

    def state(self) -> dict[str, Tensor]:
        """The optimisers' state, which a resume needs: ``adam/3/exp_avg`` of the fourth of its parameters."""
        return {
            f"{name}/{parameter}/{entry}": torch.as_tensor(value).contiguous()
            for name, optimiser in self._optimisers().items()
            for parameter, slot in optimiser.state_dict()["state"].items()
            for entry, value in slot.items()
        }

    def resume(self, weights: dict[str, Tensor], state: dict[str, Tensor], step: int, curve: Sequence[Point]) -> None:
        """Goes back to the end of an epoch."""
        self.model.load_state_dict(weights)
        self.step = step
        for name, optimiser in self._optimisers().items():
            slots: dict[int, dict[str, Tensor | int]] = {}
            for path, value in state.items():
                of, parameter, entry = path.split("/")
                if of == name:  # lazy Adam counts in plain integers
                    slots.setdefault(int(parameter), {})[entry] = value if value.is_floating_point() else value.item()
            optimiser.load_state_dict({"state": slots, "param_groups": optimiser.state_dict()["param_groups"]})
        self.curve = [tuple(point) for point in curve]
        self.start_equal()

    def _optimisers(self) -> dict[str, torch.optim.Optimizer]:
        return {"adam": self.adam, "lazy_adam": self.lazy_adam}


def _no_rows(table: Tensor) -> Tensor:
    """A sparse gradient of a table that no sample used."""
    return torch.sparse_coo_tensor(torch.empty(1, 0, dtype=torch.int64), torch.empty(0, table.shape[1]), table.shape)


def _mixed(*numbers: int) -> int:
    """One well-mixed seed from several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]) >> 1
