"""A new codebook takes over the names of the published one, so that as few IDs as possible change.

Permuting the rows of a level's codebook changes what its codes are called and nothing else: clusters, distances and
reconstructions stay. So before a new codebook is used, each level's codes get the names that agree best with the IDs
already published: one assignment problem a level.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from scipy.optimize import linear_sum_assignment

from akt_spark.semantic.quantizer import Quantizer
from akt_spark.semantic.vector_files import matrix

Names = list[NDArray[np.int32]]  # one array a level: the name of every code


def relabelled(quantizer: Quantizer, known: DataFrame) -> tuple[Quantizer, dict[str, float]]:
    """The same quantiser with the names that agree best with published IDs.

    Args:
        quantizer: fitted.
        known: id, vector, codes: vectors with their published codes, as many as the driver should hold.

    Returns:
        The quantiser; and the share of ``known`` that gets another first code, with the old names and with the new.
    """
    table = known.select("id", "vector", "codes").toArrow()
    if not table.num_rows:
        return quantizer, {}
    order = np.argsort(table.column("id").to_numpy(), kind="stable")
    vectors = matrix(table.column("vector").combine_chunks(), table.num_rows)[order]
    old = np.asarray(table.column("codes").combine_chunks().flatten()).reshape(table.num_rows, -1)[order]
    new = quantizer.encode(vectors).codes
    names = agreeing_names(new, old, quantizer.sizes)
    moved = {
        "churn_1_unaligned": float((new[:, 0] != old[:, 0]).mean()),
        "churn_1": float((names[0][new[:, 0]] != old[:, 0]).mean()),
    }
    return quantizer.relabelled(names), moved


def agreeing_names(new: NDArray[np.int32], old: NDArray[np.int32], sizes: Sequence[int]) -> Names:
    """Names for the codes of a new codebook under which the most IDs keep a prefix, level after level.

    A level counts only ids whose prefix agrees up to it: others have moved whatever the level is called. Codes that the
    old codebook has and the new one lacks (a smaller level) are names for nothing, new levels keep their own.

    Args:
        new: (N, L) codes by the new codebook.
        old: (N, M) published codes of the same ids.
        sizes: codes a level of the new codebook.
    """
    agree, names = np.ones(len(new), dtype=bool), []
    for level, size in enumerate(sizes):
        together = np.zeros((size, size), dtype=np.int64)  # ids by new code and old code
        if level < old.shape[1]:
            counted = agree & (old[:, level] < size)
            np.add.at(together, (new[counted, level], old[counted, level]), 1)
            _, name = linear_sum_assignment(together, maximize=True)
            agree &= name[new[:, level]] == old[:, level]
        else:
            name = np.arange(size)
        names.append(name.astype(np.int32))
    return names


def published_sample(vectors: DataFrame, published_ids: DataFrame) -> DataFrame:
    """id, vector, codes: the given vectors with their published codes."""
    return vectors.select("id", "vector").join(published_ids.select("id", F.col("codes")), on="id", how="inner")
