"""Training samples of a lake, as ranks are told of them and as FuxiCTR reads them; no JVM is started."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from deltalake import DeltaTable

from akt_spark.config import ModelConfig, RankerConfig, TrainingConfig
from akt_spark.ranker.lookup import EntityLookup
from akt_spark.training.lookup import load_lookup
from akt_spark.training.plan import Plan, Training
from akt_spark.training.reader import ordered_batches
from akt_spark.training.samples import Block, checksum

SPLITS = ("train", "validation", "test")
BATCH = 8192  # rows that are exported at once


def presets(*names: str) -> dict[str, ModelConfig]:
    """Rankers of docs/rivals.md by name, otherwise as configured by default."""
    ranker = RankerConfig(variants={name: {"preset": name} for name in names})
    return {name: ranker.variant(name) for name in names}


def sizes(model: ModelConfig) -> dict[str, object]:
    """What FuxiCTR is told of a model."""
    return {
        "dim": model.dim,
        "hidden": model.hidden,
        "attention": [model.attention_hidden],
        "dropout": model.dropout,
    }


def splits(lake: str) -> dict[str, tuple[Block, ...]]:
    """The blocks of every split, of the newest version."""
    found: dict[str, list[Block]] = {name: [] for name in SPLITS}
    for url in _files(lake, "samples"):
        ids = pq.read_table(url.removeprefix("file://"), columns=["sample_id", "split"], partitioning=None)
        block = Block(url, ids.num_rows, checksum(ids.column("sample_id").to_pylist()))
        found[ids.column("split")[0].as_py()].append(block)
    return {name: tuple(blocks) for name, blocks in found.items()}


def plan(
    lake: str,
    blocks: Mapping[str, Sequence[Block]],
    models: Mapping[str, ModelConfig],
    settings: TrainingConfig,
    to: str,
) -> Plan:
    """A training of every model with every seed, below the folder ``to``."""
    return Plan(
        trainings=tuple(
            Training(name, seed, model, f"{to}/{name}-seed{seed}", config_hash="benchmark", code="benchmark")
            for seed in settings.seeds
            for name, model in models.items()
        ),
        settings=settings,
        train=tuple(blocks["train"]),
        validation=tuple(blocks["validation"]),
        item_files=_files(lake, "items"),
        user_files=_files(lake, "users"),
        versions={},
        log=f"{to}/progress.log",
    )


def export(lake: str, blocks: Mapping[str, Sequence[Block]], recent: int, folder: Path) -> None:
    """Writes what FuxiCTR reads: its feature map, and an npz file a split.

    Fields: user and item, their attributes, and the newest ``recent`` entries of the history with theirs, newest first
    and padded with 0, whose embeddings are those of item and item attributes.
    """
    items, users = (load_lookup(_files(lake, f"{entity}s"), entity) for entity in ("item", "user"))
    tables = {"item": _attributes(items), "user": _attributes(users)}
    features = {
        "user": _field("user", len(users)),
        **{name: _field("user", values.max() + 1) for name, values in _named("user", tables["user"])},
        "item": _field("item", len(items)),
        **{name: _field("item", values.max() + 1) for name, values in _named("item", tables["item"])},
        "history": _sequence(len(items), recent, "item"),
        **{
            name: _sequence(values.max() + 1, recent, name.replace("history", "item"))
            for name, values in _named("history", tables["item"])
        },
    }
    folder.mkdir(parents=True, exist_ok=True)
    feature_map = {"dataset_id": folder.name, "labels": ["label"], "features": [{k: v} for k, v in features.items()]}
    (folder / "feature_map.json").write_text(json.dumps(feature_map))
    for split, of_split in blocks.items():
        parts = [_columns(batch, tables, recent) for batch in ordered_batches(of_split, BATCH, backend="arrow")]
        if parts:
            np.savez(folder / f"{split}.npz", **{name: np.concatenate([p[name] for p in parts]) for name in parts[0]})


def _columns(batch, tables: dict[str, np.ndarray], recent: int) -> dict[str, np.ndarray]:
    user, item = batch["user_idx"].numpy(), batch["item_idx"].numpy()
    history = batch["history"][:, :recent].numpy()
    return {
        "label": batch["label"].numpy(),
        "user": user,
        "item": item,
        "history": history,
        **dict(_named("user", tables["user"][user])),
        **dict(_named("item", tables["item"][item])),
        **dict(_named("history", tables["item"][history])),
    }


def _attributes(lookup: EntityLookup) -> np.ndarray:
    """Attributes that tell ids apart, (N, A): values counted from 1, 0 in the row of the padding."""
    columns = []
    for values in lookup.attributes.numpy()[1:].T:
        distinct, numbered = np.unique(values, return_inverse=True)
        if len(distinct) > 1:
            columns.append(np.concatenate([[0], numbered + 1]))
    return np.stack(columns, 1) if columns else np.zeros((len(lookup), 0), np.int64)


def _named(entity: str, values: np.ndarray) -> list[tuple[str, np.ndarray]]:
    return [(f"{entity}_attribute_{number}", values[..., number]) for number in range(values.shape[-1])]


def _field(source: str, size: int) -> dict[str, object]:
    return {"source": source, "type": "categorical", "padding_idx": 0, "vocab_size": int(size)}


def _sequence(size: int, length: int, like: str) -> dict[str, object]:
    return _field("user", size) | {"type": "sequence", "max_len": length, "share_embedding": like}


def _files(lake: str, table: str) -> tuple[str, ...]:
    paths = DeltaTable(f"{lake}/training/{table}").file_uris()
    return tuple(sorted(f"file://{Path(path.removeprefix('file://')).absolute()}" for path in paths))
