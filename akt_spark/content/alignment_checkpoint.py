"""The state of an alignment in the middle of an epoch, as one safetensors file: nothing is pickled.

Every step draws its randomness from seed, epoch and step, so there is no random state to keep.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

State = dict[str, Tensor]
PARTS = ("now", "best", "optimizer")


@dataclass
class Progress:
    """How far a training is.

    Attributes:
        epoch: the one that is running, from 1.
        step: steps of it that are done.
        best_epoch: the one with the best recall so far; 0 before the first has ended.
        best_recall: its recall of the pairs that choose.
        best: its trainable weights.
        pools: hard negatives that the running epoch draws from; None for none.
    """

    epoch: int = 1
    step: int = 0
    best_epoch: int = 0
    best_recall: float = -1.0
    best: State = field(default_factory=dict)
    pools: np.ndarray | None = None


def save(file: Path, progress: Progress, weights: State, optimizer: torch.optim.Optimizer) -> None:
    """Writes all of it, in place of what was there, whole or not at all."""
    states = zip(PARTS, (weights, progress.best, _optimizer_state(optimizer, weights)), strict=True)
    tensors = {f"{part}/{name}": t.detach().cpu().contiguous() for part, state in states for name, t in state.items()}
    if progress.pools is not None:
        tensors["pools"] = torch.from_numpy(progress.pools)
    numbers = {name: getattr(progress, name) for name in ("epoch", "step", "best_epoch", "best_recall")}
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f".{file.name}.{os.getpid()}")
    save_file(tensors, unfinished, metadata={"progress": json.dumps(numbers)})
    unfinished.replace(file)


def resume(file: Path, weights: State, optimizer: torch.optim.Optimizer) -> Progress:
    """Puts the saved weights and optimiser state in place; without a file nothing has been done yet."""
    if not file.is_file():
        return Progress()
    with safe_open(file, framework="pt") as saved:
        numbers = json.loads(saved.metadata()["progress"])
        tensors = {name: saved.get_tensor(name) for name in saved.keys()}
    pools = tensors.pop("pools", None)
    parts: dict[str, State] = {part: {} for part in PARTS}
    for name, tensor in tensors.items():
        part, _, rest = name.partition("/")
        parts[part][rest] = tensor
    with torch.no_grad():
        for name, weight in weights.items():
            weight.copy_(parts["now"][name])
    for name, tensor in parts["optimizer"].items():
        parameter, _, entry = name.rpartition("/")
        place = tensor if entry == "step" else tensor.to(weights[parameter].device)
        optimizer.state[weights[parameter]][entry] = place
    return Progress(**numbers, best=parts["best"], pools=None if pools is None else pools.numpy())


def _optimizer_state(optimizer: torch.optim.Optimizer, weights: State) -> State:
    return {
        f"{name}/{entry}": value
        for name, weight in weights.items()
        for entry, value in optimizer.state.get(weight, {}).items()
    }
