"""Reads ``training.items`` and ``training.users`` into the tensors that a ranker looks up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from akt_spark.errors import DataError
from akt_spark.ranker.lookup import NONE, STUDENT, TEACHER, EntityLookup

ROLES = {"none": NONE, "student": STUDENT, "teacher": TEACHER}
COLUMNS = ("idx", "attributes", "category", "codes", "activity", "impressions", "role", "vector")
OTHER_CODES = "other_codes"


def load_lookup(files: Sequence[str], entity: Literal["item", "user"]) -> EntityLookup:
    """Reads the Parquet files of one version of ``training.<entity>s``.

    Row ``i`` of every tensor belongs to ``idx`` i; row 0 and indices without a row are padding: zeros, no role, codes
    -1. There are ``max(idx) + 1`` rows.

    Raises:
        DataError: when semantic IDs, vectors or attributes have different lengths.
    """
    paths = [file.removeprefix("file://") for file in files]
    columns = [*COLUMNS, *([OTHER_CODES] if entity == "item" else [])]
    table = pa.concat_tables([pq.read_table(path, columns=columns, partitioning=None) for path in paths])
    idx = table.column("idx").to_numpy()
    size = int(idx.max()) + 1

    def place(values: np.ndarray, rows: np.ndarray, fill: int = 0) -> torch.Tensor:
        placed = np.full((size, *values.shape[1:]), fill, dtype=values.dtype)
        placed[rows] = values
        return torch.from_numpy(placed)

    def scalars(name: str) -> torch.Tensor:
        return place(table.column(name).to_numpy().astype(np.int64), idx)

    def lists(name: str, dtype: type[np.generic], fill: int = 0, key: str | None = None) -> torch.Tensor:
        column = table.column(name)
        column = column if key is None else pc.map_lookup(column, pa.scalar(key), "first")
        present, values = _matrix(column, f"training.{entity}s.{name}")
        return place(values.astype(dtype), idx[present], fill)

    others = _keys(table.column(OTHER_CODES)) if OTHER_CODES in columns else []
    roles = table.column("role").to_pandas().map(ROLES).to_numpy(np.int64)
    return EntityLookup(
        attributes=lists("attributes", np.int64),
        category=scalars("category"),
        codes=_one_level_at_least(lists("codes", np.int64, fill=-1)),
        activity=lists("activity", np.float32),
        impressions=scalars("impressions"),
        role=place(roles, idx),
        vector=lists("vector", np.float32),
        other_codes={name: lists(OTHER_CODES, np.int64, fill=-1, key=name) for name in others},
    )


def _keys(column: pa.ChunkedArray) -> list[str]:
    """Keys that a column of maps has."""
    return sorted({key for chunk in column.chunks for key in chunk.keys.unique().to_pylist()})


def _one_level_at_least(codes: torch.Tensor) -> torch.Tensor:
    """Codes (N, L), or (N, 1) of -1 when no id has any."""
    return codes if codes.shape[1] else codes.new_full((len(codes), 1), -1)


def _matrix(column: pa.ChunkedArray, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Which rows hold a list (N,), and those lists as a matrix (rows, length)."""
    present = column.is_valid().to_numpy()
    lists = column.drop_null().combine_chunks()
    if len(lists) == 0:
        return present, np.zeros((0, 0))
    lengths = np.unique(lists.value_lengths().to_numpy())
    if len(lengths) > 1:
        raise DataError(f"{name} holds lists of lengths {lengths.tolist()}: run jobs/build_samples.py again")
    return present, lists.flatten().to_numpy(zero_copy_only=False).reshape(len(lists), lengths[0])
