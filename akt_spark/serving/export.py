"""A folder that scores without Spark and without this package: the ranker as a graph, look-up tables, metadata.

``model.pt2`` is the graph with its weights and the frozen look-ups that it reads (codes, attributes, content vectors);
``items/`` and ``users/`` hold in Parquet the inputs of the graph for every id, as of one moment; ``metadata.json`` says
what they are; ``example.py`` puts them together. Nothing in it is pickled.
"""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Sequence
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from pyspark.sql import DataFrame
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from akt_spark.config import FeaturesConfig
from akt_spark.errors import ConfigError
from akt_spark.features.activity import ACTIVITY_FEATURES
from akt_spark.ranker.akt_rec import Ranker
from akt_spark.ranker.static import StaticRanker
from akt_spark.serving.as_of import items_as_of, users_as_of
from akt_spark.serving.served import Served
from akt_spark.training.checkpoint import atomic_folder, load_ranker, read_checkpoint
from akt_spark.training.lookup import load_lookup

FORMAT = 1
MODEL, METADATA, EXAMPLE = "model.pt2", "metadata.json", "example.py"
LIBRARIES = ("akt-spark", "torch", "pyarrow", "numpy")


def write_export(served: Served, out: Path, moment: datetime) -> dict[str, int]:
    """Writes the folder, whole or not at all, in the place of an earlier export.

    The driver loads the ranker as a rank of the training does; the tables are written by Spark's workers, which must
    see the folder under the same path.

    Args:
        served: the ranker.
        out: the folder.
        moment: nothing at or after it is in the tables, UTC.

    Returns:
        Rows of ``items`` and ``users``.

    Raises:
        ConfigError: when there is something else at ``out``.
    """
    if out.exists() and not (out / METADATA).is_file():
        raise ConfigError(f"{out} exists and is no export (it has no {METADATA}): name another folder")
    with atomic_folder(out.absolute()) as folder:
        rows = {
            "items": _write(items_as_of(served, served.ctx.lake.read("features.item_index"), moment), folder / "items"),
            "users": _write(users_as_of(served, served.ctx.lake.read("features.user_index"), moment), folder / "users"),
        }
        save_program(program(_load(served), served.features.sequence_length), folder / MODEL)
        (folder / METADATA).write_text(json.dumps(_metadata(served, moment, rows), indent=2))
        shutil.copy(Path(__file__).with_name(EXAMPLE), folder / EXAMPLE)
    return rows


class Scorer(nn.Module):
    """A ranker whose inputs have names, and whose output is a probability."""

    def __init__(self, ranker: Ranker) -> None:
        super().__init__()
        self.ranker = ranker

    def forward(
        self, user_idx: Tensor, item_idx: Tensor, history: Tensor, user_activity: Tensor, item_activity: Tensor
    ) -> Tensor:
        """Click probabilities (B,); the inputs are those of `Ranker.forward`."""
        batch = {"user_idx": user_idx, "item_idx": item_idx, "history": history}
        return torch.sigmoid(self.ranker(batch | {"user_activity": user_activity, "item_activity": item_activity}))


def program(ranker: StaticRanker, history_length: int) -> ExportedProgram:
    """The graph of a ranker for batches of any size."""
    for entity in (ranker.item, ranker.user):
        entity.sampler = None  # it only teaches, and its tables would go into the file
    for module in ranker.modules():
        for name, values in module.named_buffers(recurse=False):
            setattr(module, name, values.contiguous())  # of a column, torch would save the whole matrix
    inputs = {
        "user_idx": torch.ones(2, dtype=torch.int64),
        "item_idx": torch.ones(2, dtype=torch.int64),
        "history": torch.ones(2, history_length, dtype=torch.int64),
        "user_activity": torch.zeros(2, len(ACTIVITY_FEATURES)),
        "item_activity": torch.zeros(2, len(ACTIVITY_FEATURES)),
    }
    any_size = {name: {0: Dim("batch", min=1)} for name in inputs}
    with torch.no_grad():  # strict: the other way of tracing takes the len() of a batch for a constant
        return torch.export.export(Scorer(ranker).eval(), (), inputs, dynamic_shapes=any_size, strict=True)


def save_program(exported: ExportedProgram, path: Path) -> None:
    """Saves a graph without the inputs it was traced with, which are the one thing that torch would pickle."""
    exported.example_inputs = None
    torch.export.save(exported, path)


def _load(served: Served) -> StaticRanker:
    items, users = (
        load_lookup(files, entity)
        for entity, files in (("item", served.models.item_files), ("user", served.models.user_files))
    )
    return load_ranker(served.checkpoint.path, items, users, kind=StaticRanker)


def _write(rows: DataFrame, folder: Path) -> int:
    rows.write.parquet(f"file://{folder}")
    return rows.sparkSession.read.parquet(f"file://{folder}").count()


def _metadata(served: Served, moment: datetime, rows: dict[str, int]) -> dict[str, Any]:
    checkpoint = read_checkpoint(served.checkpoint.path)
    run_id, variant, seed = served.identity
    return {
        "format": FORMAT,
        "as_of": moment.isoformat(),
        "ranker": {
            "run_id": run_id,
            "variant": variant,
            "seed": seed,
            "config_hash": checkpoint.config_hash,
            "model": checkpoint.model,
            "metrics": checkpoint.metrics,
        },
        "tables": checkpoint.versions,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}},
        "features": served.features.model_dump(mode="json"),
        "inputs": _inputs(served.features),
        "output": {"dtype": "float32", "shape": ["batch"], "what": "click probability"},
        "unknown": _unknown(served.features),
        "rows": rows,
    }


def _inputs(features: FeaturesConfig) -> dict[str, dict[str, Any]]:
    """What the graph takes, by name."""

    def of(dtype: str, shape: Sequence[str | int], what: str) -> dict[str, Any]:
        return {"dtype": dtype, "shape": list(shape), "what": what}

    activity = ["batch", len(ACTIVITY_FEATURES)]
    listed = ", ".join(ACTIVITY_FEATURES)
    return {
        "user_idx": of("int64", ["batch"], "users.user_idx, 0 for an unknown user"),
        "item_idx": of("int64", ["batch"], "items.item_idx, 0 for an unknown item"),
        "history": of(
            "int64",
            ["batch", features.sequence_length],
            f"item_idx of the user's newest {', '.join(features.history_events)}, newest first, then zeros",
        ),
        "user_activity": of("float32", activity, f"{listed}, of the days before"),
        "item_activity": of("float32", activity, f"{listed}, of the days before"),
    }


def _unknown(features: FeaturesConfig) -> dict[str, dict[str, Any]]:
    """The inputs of users and items that nobody has seen."""
    activity = [features.ctr_prior if name == "smoothed_ctr" else 0.0 for name in ACTIVITY_FEATURES]
    return {
        "user": {"user_idx": 0, "user_activity": activity, "history": [0] * features.sequence_length},
        "item": {"item_idx": 0, "item_activity": activity},
    }
