"""A fitted quantiser on disk: ``weights.safetensors`` and, written last, ``quantizer.json`` with the weights' hash."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile

from safetensors.numpy import load, save

from akt_spark.config import QuantizerConfig
from akt_spark.errors import DataError
from akt_spark.semantic.arithmetic import Floats

WEIGHTS, DESCRIPTION = "weights.safetensors", "quantizer.json"


@dataclass(frozen=True)
class Description:
    """What ``quantizer.json`` says.

    Attributes:
        config: the configuration that made the model.
        weights_hash: SHA-256 of the weights file.
    """

    config: QuantizerConfig
    weights_hash: str


def weights_hash(weights: dict[str, Floats]) -> str:
    """SHA-256 of the weights as they are written."""
    return hashlib.sha256(save(weights)).hexdigest()


def write_model(path: Path, config: QuantizerConfig, weights: dict[str, Floats]) -> None:
    """Writes both files, each atomically. A kill in between leaves a folder that `read_model` refuses."""
    path.mkdir(parents=True, exist_ok=True)
    description = {"config": config.model_dump(), "weights_hash": weights_hash(weights)}
    _replace(path / WEIGHTS, save(weights))
    _replace(path / DESCRIPTION, json.dumps(description, indent=2).encode())


def read_description(path: Path) -> Description:
    """The description in a model's folder.

    Raises:
        DataError: when the folder holds no complete model.
    """
    file = path / DESCRIPTION
    if not file.is_file():
        raise DataError(
            f"no quantiser in {path}: the folder was moved or deleted; run jobs/build_semantic_ids.py again"
        )
    values = json.loads(file.read_text())
    return Description(QuantizerConfig.model_validate(values["config"]), values["weights_hash"])


def read_model(path: Path) -> tuple[QuantizerConfig, dict[str, Floats]]:
    """Configuration and weights.

    Raises:
        DataError: when a file is missing, or the weights are not those that the description names.
    """
    description, file = read_description(path), path / WEIGHTS
    content = file.read_bytes() if file.is_file() else b""
    if hashlib.sha256(content).hexdigest() != description.weights_hash:
        raise DataError(
            f"{file} is missing or damaged (its hash is not that of {DESCRIPTION}): restore it, or fit again"
        )
    return description.config, load(content)


def _replace(file: Path, content: bytes) -> None:
    with NamedTemporaryFile(dir=file.parent, prefix=f".{file.name}.", delete=False) as part:
        part.write(content)
        part.flush()
        os.fsync(part.fileno())
    os.chmod(part.name, 0o644)  # executors may run as another user
    os.replace(part.name, file)
