"""Whether near vectors share a prefix: of a sample of ids, their nearest neighbours among all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from akt_spark.config import HealthConfig
from akt_spark.semantic.arithmetic import Floats
from akt_spark.semantic.measures import CATEGORY, OWN, RANDOM, Measure
from akt_spark.semantic.vector_files import matrix

COLUMN = {OWN: "codes", RANDOM: "random", CATEGORY: "path"}
CANDIDATES = "query INT, similarity FLOAT, id STRING, " + ", ".join(f"{control} INT" for control in COLUMN)


@dataclass(frozen=True)
class Queries:
    """Q ids whose neighbours are wanted.

    Attributes:
        ids: (Q,) the ids themselves, which are no neighbours of their own.
        vectors: (Q, D) of length 1.
        assigned: by control, Q codes or category paths; None where the control has none.
    """

    ids: NDArray[np.object_]
    vectors: Floats
    assigned: dict[str, list[Sequence] | None]


def neighbour_measures(labelled: DataFrame, config: HealthConfig, levels: int) -> Iterator[Measure]:
    """neighbour_agreement: share of the nearest neighbours (cosine) that have the same prefix, by prefix length.

    One pass over all vectors; the queries are on the driver, bounded by the configuration.

    Args:
        labelled: see `labelled_ids`, and vector. The ``neighbour_queries`` rows with the smallest hash are queries.
        config: how many queries, and neighbours of each.
        levels: prefix lengths.
    """
    asked = labelled.orderBy(F.xxhash64("id", F.lit("query")), "id").limit(config.neighbour_queries)
    queries = _queries(asked.select("id", "vector", *COLUMN.values()).toArrow())
    search = partial(_candidates, queries=queries, k=config.neighbours, levels=levels)
    found = labelled.select("id", "vector", *COLUMN.values()).mapInArrow(search, CANDIDATES)
    nearest = Window.partitionBy("query").orderBy(F.desc("similarity"), "id")
    near = found.withColumn("place", F.row_number().over(nearest)).where(F.col("place") <= config.neighbours)
    shares = {
        (control, level): F.avg((F.col(control) >= level).cast("double")).alias(f"{control} {level}")
        for control, given in queries.assigned.items()
        if given is not None
        for level in range(1, levels + 1)
    }
    row = near.agg(*shares.values()).head()
    for control, level in shares:
        yield Measure("neighbour_agreement", level, row[f"{control} {level}"], control)


def _queries(table: pa.Table) -> Queries:
    given = {control: table.column(name) for control, name in COLUMN.items()}
    return Queries(
        table.column("id").to_numpy(),
        _unit(matrix(table.column("vector").combine_chunks(), table.num_rows)),
        {control: None if column.null_count else column.to_pylist() for control, column in given.items()},
    )


def _candidates(batches: Iterator[pa.RecordBatch], queries: Queries, k: int, levels: int) -> Iterator[pa.RecordBatch]:
    """For ``mapInArrow``: of every batch the rows that may be among the k nearest, as `CANDIDATES`.

    The last columns say by control how many of the first codes query and row share.
    """
    import faiss  # only workers search

    best = np.full((len(queries.ids), k), -np.inf, np.float32)  # similarities so far, the greatest first
    for batch in batches:
        if batch.num_rows == 0:
            continue
        vectors = _unit(matrix(batch.column("vector"), batch.num_rows))
        # one more than k: the query itself may be among them
        most = min(k + 1, batch.num_rows)
        similarity, place = faiss.knn(queries.vectors, vectors, most, faiss.METRIC_INNER_PRODUCT)
        ids = batch.column("id").to_numpy(zero_copy_only=False)
        similarity[ids[place] == queries.ids[:, None]] = -np.inf
        query, column = np.nonzero((similarity >= best[:, -1:]) & np.isfinite(similarity))
        best = -np.sort(-np.concatenate([best, similarity], axis=1), axis=1)[:, :k]
        rows = batch.take(pa.array(place[query, column]))
        shared = [
            _shared(queries.assigned[control], query, rows.column(name).to_pylist(), levels)
            for control, name in COLUMN.items()
        ]
        columns = [pa.array(query.astype(np.int32)), pa.array(similarity[query, column]), rows.column("id"), *shared]
        yield pa.RecordBatch.from_arrays(columns, names=["query", "similarity", "id", *COLUMN])


def _shared(asked: list[Sequence] | None, query: NDArray[np.int64], found: list[Sequence], levels: int) -> pa.Array:
    """How many of the first ``levels`` codes are equal; all, where both are equal though shorter."""
    if asked is None:
        return pa.nulls(len(query), pa.int32())
    return pa.array([_prefix(asked[q], codes, levels) for q, codes in zip(query, found, strict=True)], pa.int32())


def _prefix(one: Sequence, other: Sequence, levels: int) -> int:
    return next((level for level in range(levels) if one[: level + 1] != other[: level + 1]), levels)


def _unit(vectors: Floats) -> Floats:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.float32(1e-12))
