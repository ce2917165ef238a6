"""Assignment of semantic IDs in Spark: every Python worker loads the quantiser once, and reads the vectors itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields
from functools import lru_cache, partial
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyspark.sql import DataFrame

from akt_spark.semantic.arithmetic import Floats
from akt_spark.semantic.kinds import load_quantizer
from akt_spark.semantic.quantizer import Codes, Quantizer
from akt_spark.semantic.vector_files import VectorFiles

IDS = "id STRING, content_hash STRING, sid STRING, codes ARRAY<INT>, offset_codes ARRAY<INT>"
ASSIGNED = f"{IDS}, distance FLOAT, margin FLOAT"

loaded = lru_cache(maxsize=2)(load_quantizer)  # lives as long as the worker: this module is imported, not pickled


def assign(vectors: DataFrame, path: str, ranked: bool = False) -> DataFrame:
    """Semantic IDs of ``vectors``, all of them finite and of the fitted length.

    Args:
        vectors: id, content_hash, label; file and row, where the column ``vector`` lies (`located`). Rows that were
            moved since they were read should come `by_file`: a step back in a file is slow.
        path: folder of the quantiser, the same on every executor.
        ranked: also what `collisions.resolve` chooses by.

    Returns:
        id, content_hash, sid (``12-7-3``), codes, offset_codes (code + sizes of the levels before), distance, margin;
        with ``ranked`` last_distances too, squared ones to every code of the last level.
    """
    rows = vectors.select("id", "content_hash", "label", "file", "row")
    schema = f"{ASSIGNED}, last_distances ARRAY<FLOAT>" if ranked else ASSIGNED
    return rows.mapInArrow(partial(_encode, path=path, ranked=ranked), schema)


def id_columns(
    ids: pa.Array | pa.ChunkedArray, content_hash: pa.Array | pa.ChunkedArray, found: Codes, sizes: Sequence[int]
) -> dict[str, pa.Array | pa.ChunkedArray]:
    """The columns that `assign` gives, of N ids."""
    offsets = np.cumsum([0, *sizes[:-1]], dtype=np.int32)
    return {
        "id": ids,
        "content_hash": content_hash,
        "sid": _sids(found.codes),
        "codes": _lists(found.codes),
        "offset_codes": _lists(found.codes + offsets),
        "distance": pa.array(found.distance),
        "margin": pa.array(found.margin),
    }


def _encode(batches: Iterator[pa.RecordBatch], path: str, ranked: bool) -> Iterator[pa.RecordBatch]:
    quantizer, files = loaded(path), VectorFiles("vector")
    for batch in batches:
        if batch.num_rows == 0:
            continue
        parts = list(_codes(quantizer, files, batch, ranked))
        found = Codes(*(np.concatenate([getattr(part, field.name) for part, _ in parts]) for field in fields(Codes)))
        columns = id_columns(batch.column("id"), batch.column("content_hash"), found, quantizer.sizes)
        if ranked:
            columns["last_distances"] = _lists(np.concatenate([distances for _, distances in parts]))
        yield pa.RecordBatch.from_pydict(columns)


def _codes(
    quantizer: Quantizer, files: VectorFiles, batch: pa.RecordBatch, ranked: bool
) -> Iterator[tuple[Codes, Floats | None]]:
    """Of the rows of a batch, part by part; vectors are encoded as they are read, without a copy."""
    labels = batch.column("label").to_numpy(zero_copy_only=False)
    file, row = batch.column("file").dictionary_encode(), batch.column("row").to_numpy()
    number = file.indices.to_numpy()
    breaks = 1 + np.flatnonzero((np.diff(number) != 0) | (np.diff(row) < 0))
    done = 0
    for start, end in pairwise([0, *breaks.tolist(), len(row)]):
        for x in files.read(file.dictionary[int(number[start])].as_py(), row[start:end]):
            yield quantizer.encode(x, labels[done : done + len(x)]), quantizer.last_distances(x) if ranked else None
            done += len(x)


def _sids(codes: NDArray[np.int32]) -> pa.StringArray:
    """Codes (N, L) as people read them: ``12-7-3``."""
    return pc.binary_join_element_wise(*(pa.array(level).cast(pa.string()) for level in codes.T), "-")


def _lists(values: NDArray[np.int32] | Floats) -> pa.ListArray:
    """An array (N, L) as a list column."""
    rows, length = values.shape
    return pa.ListArray.from_arrays(pa.array(np.arange(rows + 1, dtype=np.int32) * length), values.ravel())
