"""Assignment of semantic IDs in Spark: every Python worker loads the quantiser once."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache, partial

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from akt_spark.semantic.arithmetic import Floats
from akt_spark.semantic.kinds import load_quantizer
from akt_spark.semantic.quantizer import Quantizer

ENCODED = "id STRING, content_hash STRING, codes ARRAY<INT>, distance FLOAT, margin FLOAT"

loaded = lru_cache(maxsize=2)(load_quantizer)  # lives as long as the worker: this module is imported, not pickled


def assign(vectors: DataFrame, path: str) -> DataFrame:
    """Semantic IDs of ``vectors`` (id, content_hash, vector, label), all vectors finite and of the fitted length.

    Args:
        path: folder of the quantiser, the same on every executor.

    Returns:
        id, content_hash, sid, codes, offset_codes, distance, margin.
    """
    rows = vectors.select("id", "content_hash", "vector", "label")
    encoded = rows.mapInArrow(partial(_encode, path=path), ENCODED)
    sid, offset_codes = readable("codes", load_quantizer(path).sizes)
    return encoded.select("id", "content_hash", sid, "codes", offset_codes, "distance", "margin")


def readable(codes: str, sizes: tuple[int, ...]) -> tuple[Column, Column]:
    """sid (``12-7-3``) and offset_codes (code + sizes of the levels before) of a column of codes."""
    offsets = [sum(sizes[:level]) for level in range(len(sizes))]
    sid = F.array_join(F.col(codes).cast("array<string>"), "-")
    offset = F.zip_with(codes, F.array(*map(F.lit, offsets)), lambda code, before: code + before)
    return sid.alias("sid"), offset.alias("offset_codes")


def matrix(vectors: pa.ListArray, rows: int) -> Floats:
    """A list column of equal lengths as an array (rows, D)."""
    return np.asarray(vectors.flatten(), dtype=np.float32).reshape(rows, -1)


def _encode(batches: Iterator[pa.RecordBatch], path: str) -> Iterator[pa.RecordBatch]:
    quantizer: Quantizer = loaded(path)
    for batch in batches:
        if batch.num_rows == 0:
            continue
        labels = batch.column("label").to_numpy(zero_copy_only=False)
        found = quantizer.encode(matrix(batch.column("vector"), batch.num_rows), labels)
        rows, levels = found.codes.shape
        codes = pa.ListArray.from_arrays(pa.array(np.arange(rows + 1, dtype=np.int32) * levels), found.codes.ravel())
        columns = [batch.column("id"), batch.column("content_hash"), codes]
        columns += [pa.array(found.distance), pa.array(found.margin)]
        yield pa.RecordBatch.from_arrays(columns, names=["id", "content_hash", "codes", "distance", "margin"])
