"""A tiny world of samples and look-ups as plain Parquet files, which is all that ranks see."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from functools import reduce
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from akt_spark.config import ModelConfig, TrainingConfig, fingerprint
from akt_spark.lake import Lake
from akt_spark.training.plan import Plan, Training
from akt_spark.training.samples import Block, checksum

USERS, ITEMS, HISTORY = 20, 30, 6
OTHER_CODES = pa.map_(pa.string(), pa.list_(pa.int32()))
TINY = ModelConfig(
    codes_of=["item", "user"],
    dim=4,
    hidden=[8],
    recent=4,
    searched=4,
    attention_hidden=4,
    students_per_step=8,
    random_teachers=8,
    snapshot_steps=2,
    transfer_learning_rate=0.5,
)


def lists(values: np.ndarray) -> pa.ListArray:
    """A matrix as a column of lists."""
    offsets = np.arange(0, values.size + 1, values.shape[1])
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(values.ravel()))


def sample_table(rows: int, first: int = 0, split: str = "train") -> pa.Table:
    """Samples ``first`` to ``first + rows``; ``user_activity[0]`` is the sample's number, so that rows can be told."""
    rng = np.random.default_rng(first)
    lengths = rng.integers(0, HISTORY + 1, rows).astype(np.int32)
    history = rng.integers(1, ITEMS, (rows, HISTORY)) * (np.arange(HISTORY) < lengths[:, None])
    user_activity = rng.random((rows, 5), dtype=np.float32)
    user_activity[:, 0] = np.arange(first, first + rows)
    items = rng.integers(1, ITEMS, rows).astype(np.int32)
    return pa.table(
        {
            "sample_id": [f"s{number:05d}" for number in range(first, first + rows)],
            "split": [split] * rows,
            "label": (rng.random(rows) < np.where(items % 2, 0.8, 0.2)).astype(np.float32),
            "user_idx": rng.integers(1, USERS, rows).astype(np.int32),
            "item_idx": items,
            "history_length": lengths,
            "history": lists(history.astype(np.int32)),
            "user_activity": lists(user_activity),
            "item_activity": lists(rng.random((rows, 5), dtype=np.float32)),
        }
    )


def lookup_table(size: int, entity: str) -> pa.Table:
    """Every third id a teacher, the others students; id 3 has no codes and no vector."""
    rng = np.random.default_rng(size)
    idx = np.arange(1, size, dtype=np.int32)
    known = idx != 3
    codes = rng.integers(0, 2, (size - 1, 2)).tolist()
    vectors = rng.normal(size=(size - 1, 3)).tolist()
    return pa.table(
        {
            "idx": idx,
            f"{entity}_id": [f"{entity}{i}" for i in idx],
            "impressions": (idx % 3 == 0) * 100 + idx.astype(np.int64),
            "role": ["teacher" if i % 3 == 0 else "student" for i in idx],
            "category": (idx % 4).astype(np.int32),
            "attributes": lists(rng.integers(0, 5, (size - 1, 2)).astype(np.int32)),
            "activity": lists(rng.random((size - 1, 5), dtype=np.float32)),
            "codes": pa.array([c if k else None for c, k in zip(codes, known, strict=True)], pa.list_(pa.int32())),
            "vector": pa.array([v if k else None for v, k in zip(vectors, known, strict=True)], pa.list_(pa.float32())),
        }
        | ({"other_codes": pa.nulls(size - 1, OTHER_CODES)} if entity == "item" else {})
    )


def write_blocks(folder: Path, sizes: Sequence[int], first: int = 0, split: str = "train") -> tuple[Block, ...]:
    """One Parquet file a size, with consecutive sample numbers."""
    folder.mkdir(parents=True, exist_ok=True)
    blocks = []
    for size in sizes:
        path = folder / f"{split}-{first:05d}.parquet"
        samples = sample_table(size, first, split)
        pq.write_table(samples, path)
        blocks.append(Block(f"file://{path}", size, checksum(samples.column("sample_id").to_pylist())))
        first += size
    return tuple(blocks)


def write_samples(lake: Lake, *files: tuple[str, int, int], mode: str = "append") -> None:
    """One commit to training.samples with one file for each (split, rows, first sample number)."""
    lake.register("training.samples")
    frames = [lake.spark.createDataFrame(sample_table(rows, first, split)) for split, rows, first in files]
    samples = reduce(DataFrame.unionByName, [frame.coalesce(1) for frame in frames])
    samples = samples.withColumn("day", F.lit(date(2024, 1, 1))).select(lake.schema("training.samples").names)
    samples.write.format("delta").mode(mode).save(lake.path("training.samples"))


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """As in a rank."""
    torch.set_num_threads(1)


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """One tiny AKT-Rec: 3 epochs of 5 steps of 32 samples."""
    for entity, size in (("item", ITEMS), ("user", USERS)):
        pq.write_table(lookup_table(size, entity), tmp_path / f"{entity}s.parquet")
    training = Training("akt_rec", 7, TINY, str(tmp_path / "akt_rec"), fingerprint("tiny"), code="")
    return Plan(
        trainings=(training,),
        settings=TrainingConfig(
            batch_size=32, epochs=3, seeds=[7], reader="arrow", backend="inline", ranks=1, curve_steps=2
        ),
        train=write_blocks(tmp_path / "samples", [64, 64, 50]),
        validation=write_blocks(tmp_path / "samples", [40, 33], first=1000, split="validation"),
        item_files=(f"file://{tmp_path}/items.parquet",),
        user_files=(f"file://{tmp_path}/users.parquet",),
        versions={"training.samples": 0, "training.items": 0, "training.users": 0},
        log=str(tmp_path / "progress.log"),
    )
