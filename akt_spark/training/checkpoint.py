"""Folders of trained rankers: finished models, and steps to resume from. A folder exists whole or not at all.

``<training>/step-00001500/`` holds ``model.safetensors``, ``optimisers.safetensors`` and ``progress.json``;
``<training>/model/``, there once the training is finished, ``model.safetensors`` and ``checkpoint.json``.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from akt_spark.config import ModelConfig
from akt_spark.errors import DataError
from akt_spark.ranker.akt_rec import Ranker
from akt_spark.ranker.lookup import EntityLookup

WEIGHTS, OPTIMISERS, PROGRESS, CHECKPOINT = (
    "model.safetensors",
    "optimisers.safetensors",
    "progress.json",
    "checkpoint.json",
)


@dataclass(frozen=True)
class Checkpoint:
    """What ``checkpoint.json`` says of a finished training.

    Attributes:
        variant: name under ``ranker.variants``.
        seed: of initialisation, order and sampling.
        model: the resolved `ModelConfig`.
        versions: Delta versions of the training tables.
        config_hash: of everything that decides the result.
        epoch: the kept one, from 1.
        step: optimiser steps up to the end of the last epoch.
        parameters: trainable numbers.
        samples: training samples that all ranks together took.
        seconds: wall time of all epochs.
        metrics: of the kept epoch.
        curve: (step, metric, value).
        gates: rows of ``training.gates`` without run, variant and seed.
    """

    variant: str
    seed: int
    model: dict[str, Any]
    versions: dict[str, int]
    config_hash: str
    epoch: int
    step: int
    parameters: int
    samples: int
    seconds: float
    metrics: dict[str, float]
    curve: list[tuple[int, str, float]]
    gates: list[dict[str, Any]]


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A temporary sibling that takes the place of ``path`` when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for abandoned in path.parent.glob(f".{path.name}.*"):
        shutil.rmtree(abandoned)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.mkdir()
    yield temporary
    shutil.rmtree(path, ignore_errors=True)
    temporary.rename(path)


def save_step(
    training: Path, step: int, model: nn.Module, optimisers: dict[str, Tensor], progress: dict[str, Any]
) -> None:
    """Saves where a training stands after so many steps."""
    with atomic_folder(_folder(training, step)) as folder:
        save_file(_weights(model), folder / WEIGHTS)
        save_file(optimisers, folder / OPTIMISERS)
        (folder / PROGRESS).write_text(json.dumps(progress))


def saved_steps(training: Path) -> list[int]:
    """The steps of a training that are saved, ascending."""
    return sorted(int(folder.name.removeprefix("step-")) for folder in training.glob("step-*"))


def load_step(training: Path, step: int) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Any]]:
    """Weights, optimiser state and progress of a saved step."""
    folder = _folder(training, step)
    progress = json.loads((folder / PROGRESS).read_text())
    return load_file(folder / WEIGHTS), load_file(folder / OPTIMISERS), progress


def drop_steps(training: Path, keep: set[int]) -> None:
    """Deletes the saved steps of a training but some."""
    for step in set(saved_steps(training)) - keep:
        shutil.rmtree(_folder(training, step))


def _folder(training: Path, step: int) -> Path:
    return training / f"step-{step:08d}"


def save_finished(training: Path, model: nn.Module, checkpoint: Checkpoint) -> None:
    """Saves the kept weights. From here on the training is finished."""
    with atomic_folder(training / "model") as folder:
        save_file(_weights(model), folder / WEIGHTS)
        (folder / CHECKPOINT).write_text(json.dumps(asdict(checkpoint)))


def finished(training: Path) -> bool:
    """Whether a training has reached its end."""
    return (training / "model" / CHECKPOINT).is_file()


def read_checkpoint(path: Path | str) -> Checkpoint:
    """Reads ``checkpoint.json`` of a model folder.

    Raises:
        DataError: when there is no finished model.
    """
    file = Path(path, CHECKPOINT)
    if not file.is_file():
        raise DataError(f"no trained model at {path}: run jobs/train_ranker.py for this --ds first")
    return Checkpoint(**json.loads(file.read_text()))


def load_ranker(path: Path | str, items: EntityLookup, users: EntityLookup, kind: type[Ranker] = Ranker) -> Ranker:
    """A trained ranker in evaluation mode, over the look-ups it was trained with.

    Args:
        path: the model folder.
        items: the look-up of items.
        users: the look-up of users.
        kind: `Ranker`, or one that computes the same in another way.

    Raises:
        DataError: when there is no finished model.
    """
    checkpoint = read_checkpoint(path)
    model = kind(ModelConfig.model_validate(checkpoint.model), items, users, checkpoint.seed)
    model.load_state_dict(load_file(Path(path, WEIGHTS)))
    return model.eval()


def _weights(model: nn.Module) -> dict[str, Tensor]:
    """The state; tensors that two modules share are stored twice, since the format knows no sharing."""
    state, stored = {}, set()
    for name, values in model.state_dict().items():
        state[name] = values.clone() if values.data_ptr() in stored else values.contiguous()
        stored.add(values.data_ptr())
    return state
