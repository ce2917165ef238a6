"""Folders of model weights: where they lie, what they may hold, and a hash of it."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

from akt_spark.config import fingerprint
from akt_spark.errors import ConfigError

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def model_folder(model: str) -> Path:
    """The folder of a model given as a folder or as an id in the hub's local cache. Nothing is fetched.

    Raises:
        ConfigError: when it is neither.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder.absolute()
    try:
        return Path(snapshot_download(model, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        raise ConfigError(
            f"encoder.model {model} is neither a folder nor in the local cache of the model hub: give the folder that "
            f"holds its config.json, or fetch it where there is a network: hf download {model}"
        ) from None


def model_fingerprint(model: str) -> str:
    """A hash over names, sizes and modification times of a model's files: whether they may have changed.

    Raises:
        ConfigError: when there is no such model.
    """
    folder = model_folder(model)
    states = {str(file.relative_to(folder)): file.stat() for file in sorted(folder.rglob("*")) if file.is_file()}
    return fingerprint({name: (state.st_size, state.st_mtime_ns) for name, state in states.items()})


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a folder.

    Raises:
        ConfigError: when there are none, or not all that the index names. Pickled weights are never read: unpickling
            runs whatever code the file holds.
    """
    index = folder / INDEX
    if (folder / WEIGHTS).is_file() or not index.is_file():
        names = [WEIGHTS]
    else:
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        pickled = sorted(file.name for file in folder.iterdir() if file.suffix in PICKLED)
        why = f"; {', '.join(pickled)} would have to be unpickled, which could run any code" if pickled else ""
        raise ConfigError(
            f"encoder.model {folder} lacks {', '.join(missing)}{why}: give a folder of safetensors weights"
        )
    return [folder / name for name in names]


def known_file(file: Path, sha256: str) -> Path:
    """The file, when it holds the bytes that this version was checked with: what unpickling them does is known.

    Raises:
        ConfigError: when it holds others.
    """
    if (found := _digest(file)) != sha256:  # of the bytes, whatever a link to them is called
        raise ConfigError(
            f"{file} has the SHA-256 {found}, not {sha256}, and is not opened: it holds pickled weights, which could "
            "run any code. Install the locked environment again"
        )
    return file


def file_hash(file: Path) -> str:
    """SHA-256 of a file. The hub's cache names large files by it, and links to them; others are read (1 GB/s)."""
    blob = file.resolve().name
    if file.is_symlink() and re.fullmatch(r"[0-9a-f]{64}", blob):
        return blob
    return _digest(file)


def _digest(file: Path) -> str:
    with file.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()
