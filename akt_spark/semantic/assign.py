"""Assignment of semantic IDs in Spark: every Python worker loads the quantiser once, and reads the vectors itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from functools import lru_cache, partial
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyspark.sql import DataFrame

from akt_spark.semantic.kinds import load_quantizer
from akt_spark.semantic.quantizer import Codes, Quantizer
from akt_spark.semantic.vector_files import VectorFiles

IDS = "id STRING, content_hash STRING, sid STRING, codes ARRAY<INT>, offset_codes ARRAY<INT>"
ASSIGNED = f"{IDS}, distance FLOAT, margin FLOAT"
NAMES = [column.split()[0] for column in ASSIGNED.split(", ")]

loaded = lru_cache(maxsize=2)(load_quantizer)  # lives as long as the worker: this module is imported, not pickled


def assign(vectors: DataFrame, path: str) -> DataFrame:
    """Semantic IDs of ``vectors``, all of them finite and of the fitted length.

    Args:
        vectors: id, content_hash, label; file and row, where the column ``vector`` lies (`located`). Rows that were
            moved since they were read should come `by_file`: a step back in a file is slow.
        path: folder of the quantiser, the same on every executor.

    Returns:
        id, content_hash, sid (``12-7-3``), codes, offset_codes (code + sizes of the levels before), distance, margin.
    """
    rows = vectors.select("id", "content_hash", "label", "file", "row")
    return rows.mapInArrow(partial(_encode, path=path), ASSIGNED)


def _encode(batches: Iterator[pa.RecordBatch], path: str) -> Iterator[pa.RecordBatch]:
    quantizer, files = loaded(path), VectorFiles("vector")
    for batch in batches:
        if batch.num_rows == 0:
            continue
        found = _codes(quantizer, files, batch)
        offsets = np.cumsum([0, *quantizer.sizes[:-1]], dtype=np.int32)
        columns = [batch.column("id"), batch.column("content_hash"), _sids(found.codes)]
        columns += [
            _lists(found.codes),
            _lists(found.codes + offsets),
            pa.array(found.distance),
            pa.array(found.margin),
        ]
        yield pa.RecordBatch.from_arrays(columns, names=NAMES)


def _codes(quantizer: Quantizer, files: VectorFiles, batch: pa.RecordBatch) -> Codes:
    """Of the rows of a batch; vectors are encoded as they are read, without a copy."""
    labels = batch.column("label").to_numpy(zero_copy_only=False)
    file, row = batch.column("file").dictionary_encode(), batch.column("row").to_numpy()
    number = file.indices.to_numpy()
    breaks = 1 + np.flatnonzero((np.diff(number) != 0) | (np.diff(row) < 0))
    parts, done = [], 0
    for start, end in pairwise([0, *breaks.tolist(), len(row)]):
        for x in files.read(file.dictionary[int(number[start])].as_py(), row[start:end]):
            parts.append(quantizer.encode(x, labels[done : done + len(x)]))
            done += len(x)
    return Codes(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Codes)))


def _sids(codes: NDArray[np.int32]) -> pa.StringArray:
    """Codes (N, L) as people read them: ``12-7-3``."""
    return pc.binary_join_element_wise(*(pa.array(level).cast(pa.string()) for level in codes.T), "-")


def _lists(codes: NDArray[np.int32]) -> pa.ListArray:
    """Codes (N, L) as a list column."""
    rows, levels = codes.shape
    return pa.ListArray.from_arrays(pa.array(np.arange(rows + 1, dtype=np.int32) * levels), codes.ravel())
