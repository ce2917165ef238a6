"""Trained models as folders of two files: ``weights.safetensors`` and ``model.json``."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load, save
from torch import Tensor, nn

from akt_spark.config import fingerprint

WEIGHTS, DESCRIPTION = "weights.safetensors", "model.json"


def weights_hash(model: nn.Module) -> str:
    """A short hash of every weight."""
    return fingerprint(save(_plain(model.state_dict())).hex())


def state_hash(state: Mapping[str, Tensor], *beside: Any) -> str:
    """A short hash of named weights, and of JSON-like values beside them; their order does not matter."""
    return fingerprint(hashlib.sha256(save(_plain(dict(sorted(state.items()))))).hexdigest(), *beside)


def save_model(folder: Path, model: nn.Module, description: dict[str, Any]) -> None:
    """Writes a model folder; see `save_state`."""
    save_state(folder, model.state_dict(), description)


def save_state(folder: Path, state: Mapping[str, Tensor], description: dict[str, Any]) -> None:
    """Writes a model folder so that it is there whole or not at all.

    A folder that exists is left alone: its name holds the revision, so it has the same content.
    """
    if folder.is_dir():
        return
    unfinished = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    (unfinished / WEIGHTS).write_bytes(save(_plain(state)))
    (unfinished / DESCRIPTION).write_text(json.dumps(description, indent=2, sort_keys=True))
    unfinished.rename(folder)


def load_model(folder: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights and description of a model folder."""
    return load((Path(folder) / WEIGHTS).read_bytes()), json.loads((Path(folder) / DESCRIPTION).read_text())


def _plain(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
