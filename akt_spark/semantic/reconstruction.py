"""How much of the vectors the codes explain, over all vectors."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from akt_spark.semantic.arithmetic import Floats
from akt_spark.semantic.assign import loaded
from akt_spark.semantic.measures import CATEGORY, OWN, RANDOM, Measure
from akt_spark.semantic.quantizer import Quantizer
from akt_spark.semantic.vector_files import matrix

MOMENTS = ("n", "total", "squares")


def reconstruction_measures(labelled: DataFrame, path: str, levels: int) -> Iterator[Measure]:
    """unexplained_variance: sum ||x - x^||^2 / sum ||x - mean(x)||^2 of the normalised vectors (method.md 4.4).

    x^ is what the first codes of x, by prefix length, are decoded to; of the controls, what permuted codes are, and the
    mean of the vectors of the leaf category (all ids without one are a category). Null without variance.

    Args:
        labelled: see `labelled_ids`, and vector.
        path: folder of the quantiser.
        levels: prefix lengths.
    """
    errors = _errors(levels)
    added = [F.sum(name).alias(name) for name in (*MOMENTS, *errors.values())]
    schema = "leaf STRING, dimension INT, " + ", ".join(f"{name} DOUBLE" for name in (*MOMENTS, *errors.values()))
    rows = labelled.select("codes", "random", "leaf", "vector")
    sums = rows.mapInArrow(partial(_sums, path=path, levels=levels), schema)
    of_leaves = sums.groupBy("leaf", "dimension").agg(*added)
    within = F.col("squares") - F.col("total") * F.col("total") / F.col("n")
    around_leaf = of_leaves.select("*", within.alias(CATEGORY))
    dimensions = around_leaf.groupBy("dimension").agg(*added, F.sum(CATEGORY).alias(CATEGORY))
    shares = [F.try_divide(F.sum(name), F.sum(within)).alias(name) for name in (*errors.values(), CATEGORY)]
    found = dimensions.agg(*shares).head()
    for (control, level), name in errors.items():
        yield Measure("unexplained_variance", level, found[name], control)
    for control in (OWN, RANDOM):
        yield Measure("unexplained_variance", 0, found[errors[control, levels]], control)
    if "path" in labelled.columns and not labelled.where(F.col("path").isNotNull()).isEmpty():
        yield Measure("unexplained_variance", 0, found[CATEGORY], CATEGORY)


def _sums(batches: Iterator[pa.RecordBatch], path: str, levels: int) -> Iterator[pa.RecordBatch]:
    """Sums over the rows of every batch, one row a leaf category and dimension."""
    quantizer = loaded(path)
    for batch in batches:
        if batch.num_rows == 0:
            continue
        x = quantizer.normalise(matrix(batch.column("vector"), batch.num_rows)).astype(np.float64)
        codes = [_codes(batch.column(name), batch.num_rows) for name in ("codes", "random")]
        decoded = [_decoded(quantizer, one[:, :level]) for one in codes for level in range(1, levels + 1)]
        leaves = batch.column("leaf").dictionary_encode()
        group = leaves.indices.fill_null(len(leaves.dictionary)).to_numpy(zero_copy_only=False)
        names = pa.concat_arrays([leaves.dictionary.cast(pa.string()), pa.nulls(1, pa.string())])
        used, starts = np.unique(np.sort(group), return_index=True)
        order = np.argsort(group, kind="stable")
        values = [np.ones_like(x), x, np.square(x), *(np.square(x - one) for one in decoded)]
        sums = [np.add.reduceat(value[order], starts) for value in values]  # (groups, D) each
        dim = x.shape[1]
        columns = [
            names.take(pa.array(np.repeat(used, dim))),
            pa.array(np.tile(np.arange(dim, dtype=np.int32), len(used))),
        ]
        columns += [pa.array(one.ravel()) for one in sums]
        names = ["leaf", "dimension", *MOMENTS, *_errors(levels).values()]
        yield pa.RecordBatch.from_arrays(columns, names=names)


def _errors(levels: int) -> dict[tuple[str, int], str]:
    """Names of the sums of squared errors, by control and prefix length."""
    return {(control, level): f"{control}_{level}" for control in (OWN, RANDOM) for level in range(1, levels + 1)}


def _codes(column: pa.ListArray, rows: int) -> NDArray[np.int32]:
    return np.asarray(column.flatten()).reshape(rows, -1)


def _decoded(quantizer: Quantizer, codes: NDArray[np.int32]) -> Floats:
    """Reconstructions (N, D) of codes (N, l): each distinct row is decoded once."""
    distinct, place = np.unique(codes, axis=0, return_inverse=True)
    return quantizer.decode(distinct)[place]
