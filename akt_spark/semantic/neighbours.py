"""Whether near vectors share their first code, on a bounded sample, beside shuffled codes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from akt_spark.config import HealthConfig
from akt_spark.semantic.arithmetic import Floats
from akt_spark.semantic.assign import matrix
from akt_spark.semantic.clusters import Measure

QUERY_BLOCK = 256


def neighbour_measures(coded: DataFrame, config: HealthConfig) -> Iterator[Measure]:
    """Share of the nearest neighbours (cosine) that have the same level-1 code; ``_random`` with shuffled codes.

    Args:
        coded: id, codes, vector. The ``neighbour_pool`` rows with the smallest hash are compared with each other, the
            first ``neighbour_queries`` of them as queries.
    """
    pool = coded.orderBy(F.xxhash64("id", F.lit("pool")), "id").limit(config.neighbour_pool)
    table = pool.select(F.col("codes")[0].alias("code"), "vector").toArrow()
    vectors = matrix(table.column("vector").combine_chunks(), table.num_rows)
    codes = table.column("code").to_numpy()
    near = nearest(vectors, min(config.neighbour_queries, len(vectors)), min(config.neighbours, len(vectors) - 1))
    random = np.random.default_rng(0).permutation(codes)
    for metric, code in (("neighbour_agreement", codes), ("neighbour_agreement_random", random)):
        yield metric, 1, float((code[near] == code[: len(near), None]).mean()) if near.size else None


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
