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
from statistics import mean
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
ASIDE = ".replaced"


@dataclass(frozen=True)
class Checkpoint:
    """What ``checkpoint.json`` says of a finished training.

    Attributes:
        variant: name under ``ranker.variants``.
        seed: of initialisation, order and sampling.
        model: the resolved `ModelConfig`.
        versions: Delta versions of the training tables.
        config_hash: of everything that decides the result.
        code: hash of the code of rankers.
        parent: hash of the ranker that the training started from.
        epoch: the kept one, from 1.
        step: optimiser steps up to the end of the last epoch.
        parameters: trainable numbers.
        samples: training samples that all ranks together took.
        seconds: wall time of all epochs.
        peak_gib: the most memory of rank 0; a training that was killed counts what it had at its last checkpoint.
        metrics: of the kept epoch.
        curve: (step, metric, value).
        timings: the same of what another run would measure otherwise: samples_per_second and reader_wait of epochs.
        gates: rows of ``training.gates`` without run, variant and seed.
    """

    variant: str
    seed: int
    model: dict[str, Any]
    versions: dict[str, int]
    config_hash: str
    code: str
    parent: str | None
    epoch: int
    step: int
    parameters: int
    samples: int
    seconds: float
    peak_gib: float
    metrics: dict[str, float]
    curve: list[tuple[int, str, float]]
    timings: list[tuple[int, str, float]]
    gates: list[dict[str, Any]]

    @property
    def reader_wait(self) -> float:
        """Share of the steps' time that was waited for samples, the mean of all epochs."""
        return mean(value for _, metric, value in self.timings if metric == "reader_wait")


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A temporary sibling that takes the place of ``path`` when the block ends without an error.

    No system call puts a folder in the place of a full one, so the old one steps aside first. A kill in that moment
    loses nothing: `put_back` finds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    put_back(path.parent)
    for abandoned in path.parent.glob(f".{path.name}.*"):
        shutil.rmtree(abandoned)
    temporary, aside = path.with_name(f".{path.name}.{os.getpid()}"), path.with_name(f".{path.name}{ASIDE}")
    temporary.mkdir()
    yield temporary
    if path.exists():
        os.replace(path, aside)
    os.replace(temporary, path)
    shutil.rmtree(aside, ignore_errors=True)


def put_back(parent: Path) -> None:
    """Gives folders their names back that stepped aside for others that never came."""
    for aside in parent.glob(f".*{ASIDE}"):
        path = aside.with_name(aside.name.removeprefix(".").removesuffix(ASIDE))
        if not path.exists():
            os.replace(aside, path)


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
    return is_model(training / "model")


def is_model(folder: Path) -> bool:
    """Whether a folder holds a finished ranker."""
    return (folder / CHECKPOINT).is_file()


def read_checkpoint(path: Path | str) -> Checkpoint:
    """Reads ``checkpoint.json`` of a model folder.

    Raises:
        DataError: when there is no finished model.
    """
    if not is_model(Path(path)):
        raise DataError(f"no trained model at {path}: run jobs/train_ranker.py for this --ds first")
    return Checkpoint(**json.loads(Path(path, CHECKPOINT).read_text()))


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
