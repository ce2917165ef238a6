"""Whether near vectors share a prefix, on a bounded sample."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from akt_spark.config import HealthConfig
from akt_spark.semantic.arithmetic import Floats
from akt_spark.semantic.assign import matrix
from akt_spark.semantic.measures import CATEGORY, OWN, RANDOM, Measure

QUERY_BLOCK = 256
COLUMN = {OWN: "codes", RANDOM: "random", CATEGORY: "path"}


def neighbour_measures(labelled: DataFrame, config: HealthConfig, levels: int) -> Iterator[Measure]:
    """neighbour_agreement: share of the nearest neighbours (cosine) that have the same prefix, by prefix length.

    Args:
        labelled: see `labelled_ids`, and vector. The ``neighbour_pool`` rows with the smallest hash are compared with
            each other, the first ``neighbour_queries`` of them as queries.
        config: the size of the sample.
        levels: prefix lengths.
    """
    pool = labelled.orderBy(F.xxhash64("id", F.lit("pool")), "id").limit(config.neighbour_pool)
    table = pool.select("vector", *COLUMN.values()).toArrow()
    vectors = matrix(table.column("vector").combine_chunks(), table.num_rows)
    near = nearest(vectors, min(config.neighbour_queries, len(vectors)), min(config.neighbours, len(vectors) - 1))
    for control, column in COLUMN.items():
        assigned = table.column(column)
        if assigned.null_count == 0:
            for level in range(1, levels + 1):
                prefix = np.unique([str(codes[:level]) for codes in assigned.to_pylist()], return_inverse=True)[1]
                agrees = prefix[near] == prefix[: len(near), None]
                yield Measure("neighbour_agreement", level, float(agrees.mean()) if near.size else None, control)


def nearest(vectors: Floats, queries: int, k: int) -> NDArray[np.int64]:
    """The k nearest other rows, by cosine, of each of the first ``queries`` rows of vectors (N, D): (queries, k)."""
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    found = [np.empty((0, k), np.int64)]
    for start in range(0, queries, QUERY_BLOCK):
        rows = np.arange(start, min(start + QUERY_BLOCK, queries))
        similarity = unit[rows] @ unit.T
        similarity[np.arange(len(rows)), rows] = -np.inf  # not its own neighbour
        found.append(np.argsort(-similarity, axis=1, kind="stable")[:, :k])
    return np.concatenate(found)
