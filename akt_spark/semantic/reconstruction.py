"""How much of the vectors the codes explain, over all vectors."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from akt_spark.semantic.assign import loaded, matrix

SUMS = ("n", "total", "squares", "error")


def unexplained_variance(coded: DataFrame, path: str) -> float | None:
    """sum ||x - x^||^2 / sum ||x - mean(x)||^2 of the normalised vectors (method.md 4.4); null without variance.

    Args:
        coded: codes, vector.
        path: folder of the quantiser.
    """
    schema = "dimension INT, " + ", ".join(f"{name} DOUBLE" for name in SUMS)
    sums = coded.select("codes", "vector").mapInArrow(partial(_sums, path=path), schema)
    dimensions = sums.groupBy("dimension").agg(*(F.sum(name).alias(name) for name in SUMS))
    variance = F.sum(F.col("squares") - F.col("total") * F.col("total") / F.col("n"))
    return dimensions.agg(F.try_divide(F.sum("error"), variance).alias("value")).head()["value"]


def _sums(batches: Iterator[pa.RecordBatch], path: str) -> Iterator[pa.RecordBatch]:
    """Sums over the rows of every batch, one row a dimension."""
    quantizer = loaded(path)
    for batch in batches:
        if batch.num_rows == 0:
            continue
        x = quantizer.normalise(matrix(batch.column("vector"), batch.num_rows)).astype(np.float64)
        codes = np.asarray(batch.column("codes").flatten()).reshape(batch.num_rows, -1)
        error = np.square(x - quantizer.decode(codes))
        columns = [np.full(x.shape[1], float(len(x))), x.sum(axis=0), np.square(x).sum(axis=0), error.sum(axis=0)]
        arrays = [pa.array(np.arange(x.shape[1], dtype=np.int32)), *map(pa.array, columns)]
        yield pa.RecordBatch.from_arrays(arrays, names=["dimension", *SUMS])
