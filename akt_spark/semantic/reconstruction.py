"""How much of the vectors the codes explain, over all vectors."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from akt_spark.semantic.arithmetic import Floats
from akt_spark.semantic.assign import loaded, matrix
from akt_spark.semantic.measures import CATEGORY, OWN, RANDOM, Measure

SUMS = ("n", "total", "squares", OWN, RANDOM)  # the last two: squared errors


def reconstruction_measures(labelled: DataFrame, path: str) -> Iterator[Measure]:
    """unexplained_variance: sum ||x - x^||^2 / sum ||x - mean(x)||^2 of the normalised vectors (method.md 4.4).

    x^ is what the codes of x are decoded to; of the controls, what permuted codes are, and the mean of the vectors of
    the leaf category (all ids without one are a category). Null without variance.

    Args:
        labelled: see `labelled_ids`, and vector.
        path: folder of the quantiser.
    """
    schema = "leaf STRING, dimension INT, " + ", ".join(f"{name} DOUBLE" for name in SUMS)
    sums = labelled.select("codes", "random", "leaf", "vector").mapInArrow(partial(_sums, path=path), schema)
    added = [F.sum(name).alias(name) for name in SUMS]
    of_leaves = sums.groupBy("leaf", "dimension").agg(*added)
    around_leaf = (F.col("squares") - F.col("total") * F.col("total") / F.col("n")).alias("around_leaf")
    dimensions = (
        of_leaves.select("*", around_leaf).groupBy("dimension").agg(*added, F.sum("around_leaf").alias(CATEGORY))
    )
    variance = F.sum(F.col("squares") - F.col("total") * F.col("total") / F.col("n"))
    shares = [F.try_divide(F.sum(name), variance).alias(name) for name in (OWN, RANDOM, CATEGORY)]
    found = dimensions.agg(*shares).head()
    yield Measure("unexplained_variance", 0, found[OWN])
    yield Measure("unexplained_variance", 0, found[RANDOM], RANDOM)
    if "path" in labelled.columns and not labelled.where(F.col("path").isNotNull()).isEmpty():
        yield Measure("unexplained_variance", 0, found[CATEGORY], CATEGORY)


def _sums(batches: Iterator[pa.RecordBatch], path: str) -> Iterator[pa.RecordBatch]:
    """Sums over the rows of every batch, one row a leaf category and dimension."""
    quantizer = loaded(path)
    for batch in batches:
        if batch.num_rows == 0:
            continue
        x = quantizer.normalise(matrix(batch.column("vector"), batch.num_rows)).astype(np.float64)
        decoded = [quantizer.decode(_codes(batch.column(name), batch.num_rows)) for name in ("codes", "random")]
        leaves = batch.column("leaf").dictionary_encode()
        group = leaves.indices.fill_null(len(leaves.dictionary)).to_numpy(zero_copy_only=False)
        values = [np.ones_like(x), x, np.square(x), *(np.square(x - one) for one in decoded)]
        sums = np.stack([_by_group(value, group, len(leaves.dictionary) + 1) for value in values])  # (5, groups, D)
        used = np.unique(group)
        names = pa.concat_arrays([leaves.dictionary.cast(pa.string()), pa.nulls(1, pa.string())])
        dim = x.shape[1]
        columns = [
            names.take(pa.array(np.repeat(used, dim))),
            pa.array(np.tile(np.arange(dim, dtype=np.int32), len(used))),
        ]
        columns += [pa.array(one[used].ravel()) for one in sums]
        yield pa.RecordBatch.from_arrays(columns, names=["leaf", "dimension", *SUMS])


def _codes(column: pa.ListArray, rows: int) -> np.ndarray:
    return np.asarray(column.flatten()).reshape(rows, -1)


def _by_group(values: Floats, group: np.ndarray, groups: int) -> Floats:
    """(N, D) to (groups, D): sums of the rows of each group."""
    sums = np.zeros((groups, values.shape[1]))
    np.add.at(sums, group, values)
    return sums
