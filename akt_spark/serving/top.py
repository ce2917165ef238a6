"""The best candidates of every user as of one moment, in Spark's workers.

Nowhere is there a table of all pairs. What is known of the candidates lies in files that every worker reads once, as it
reads the ranker's look-ups; users come to it as rows, with their own lists of candidates where they have some; it
scores a bounded number of pairs at a time, and keeps the best of each user.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from uuid import uuid4

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from akt_spark.lake import Lake
from akt_spark.ranker.akt_rec import Ranker
from akt_spark.training.columns import Arrays, to_arrays
from akt_spark.training.reader import to_batch
from akt_spark.training.score import Models, click_probability, load_rankers

FOLDER = "candidates"
LISTED = 1000  # candidates of a user in one row: a batch of rows has a bounded size
USER_INPUTS = ("user_idx", "history", "user_activity")
ITEM_INPUTS = ("item_idx", "item_activity")
PAIR = np.dtype([("row", np.int64), ("candidate", np.int64), ("score", np.float32)])
SCHEMA = "user_id STRING, user_idx INT, item_id STRING, item_idx INT, score FLOAT"

Batches = Iterator[pa.RecordBatch]


@dataclass(frozen=True)
class Candidates:
    """What is known of all candidates, in the order of their ids: the ids, and the ranker's inputs by name."""

    ids: pd.Index
    inputs: Arrays


def best(
    users: DataFrame,
    lists: DataFrame | None,
    files: Sequence[str],
    models: Models,
    top: int,
    batch_pairs: int,
    partitions: int,
) -> DataFrame:
    """The ``top`` best candidates of every user. Shuffles: users (and their lists) and their best candidates by user.

    Args:
        users: `users_as_of`, one row a user.
        lists: user_id and item_id, distinct: the candidates of each user; None where all have all. Users without any
            have no rows in the result.
        files: Parquet files of `items_as_of` of all candidates, seen by every worker.
        models: one ranker.
        top: candidates kept of a user.
        batch_pairs: pairs scored at once.
        partitions: tasks.

    Returns:
        user_id, user_idx, item_id, item_idx, score, and ``rank`` from 1; equal scores go by item_id.
    """
    asked = users if lists is None else users.join(_listed(lists), on="user_id", how="inner")
    asked = asked.repartition(partitions, "user_id")  # a number: small rows with much work must not come into one task
    found = asked.mapInArrow(_chooser(models, tuple(files), top, batch_pairs), SCHEMA)
    best_first = Window.partitionBy("user_id").orderBy(F.desc("score"), "item_id")
    return found.withColumn("rank", F.row_number().over(best_first)).where(F.col("rank") <= top)


@contextmanager
def written(lake: Lake, candidates: DataFrame, name: str) -> Iterator[list[str]]:
    """Files of the candidates for workers to read; they go when the block ends, maintenance removes what a kill leaves.

    Args:
        lake: where they are written, under ``artifacts/candidates``.
        candidates: the rows.
        name: a folder for what belongs together.
    """
    folder = lake.artifact(FOLDER, name, uuid4().hex)
    try:
        candidates.write.parquet(f"file://{folder}")
        yield sorted(map(str, folder.glob("*.parquet")))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _listed(lists: DataFrame) -> DataFrame:
    """user_id and ``candidates`` ARRAY<STRING>: at most `LISTED` a row, several rows for a user with more."""
    place = F.row_number().over(Window.partitionBy("user_id").orderBy("item_id"))
    blocks = lists.withColumn("block", F.floor((place - 1) / LISTED))
    return blocks.groupBy("user_id", "block").agg(F.collect_list("item_id").alias("candidates")).drop("block")


def _chooser(models: Models, files: tuple[str, ...], top: int, batch_pairs: int) -> Callable[[Batches], Batches]:
    def choose(users: Batches) -> Batches:
        for rows in users:
            ((_, _, ranker),) = load_rankers(models)
            candidates = load_candidates(files)
            lists = _positions(rows, candidates)
            inputs = to_arrays(rows, USER_INPUTS)
            for chosen in _best_of_rows(ranker, inputs, candidates.inputs, lists, top, batch_pairs):
                yield _found(rows, candidates, chosen)

    return choose


@lru_cache(maxsize=1)
def load_candidates(files: tuple[str, ...]) -> Candidates:
    """The candidates, loaded once a Python worker; a worker that serves the next request forgets them."""
    table = pa.concat_tables([pq.read_table(file, partitioning=None) for file in files]).sort_by("item_id")
    return Candidates(pd.Index(table.column("item_id").to_pandas()), to_arrays(table, ITEM_INPUTS))


def _positions(rows: pa.RecordBatch, candidates: Candidates) -> list[np.ndarray]:
    """Places in the candidates of those of every row, ascending."""
    if FOLDER not in rows.schema.names:
        return [np.arange(len(candidates.ids))] * len(rows)
    lists = rows.column(FOLDER)
    places = candidates.ids.get_indexer(lists.flatten().to_pandas())
    return [np.sort(part) for part in np.split(places, np.cumsum(lists.value_lengths().to_numpy())[:-1])]


def _best_of_rows(
    ranker: Ranker, users: Arrays, items: Arrays, lists: Sequence[np.ndarray], top: int, batch_pairs: int
) -> Iterator[np.ndarray]:
    """The best ``top`` pairs (`PAIR`) of every row; never more than ``batch_pairs`` are scored at once."""
    unfinished = np.empty(0, PAIR)
    for pairs in _pairs(lists, batch_pairs):
        inputs = {name: values[pairs["row"]] for name, values in users.items()}
        inputs |= {name: values[pairs["candidate"]] for name, values in items.items()}
        pairs["score"] = click_probability(ranker, to_batch(inputs))
        kept = _kept(np.concatenate([unfinished, pairs]), top)
        last = kept["row"] == pairs["row"][-1]  # the next pairs may be of this row too
        yield kept[~last]
        unfinished = kept[last]
    yield unfinished


def _pairs(lists: Sequence[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """All pairs of a row and its candidates, row after row, ``size`` at a time; the last may be fewer."""
    pairs, filled = np.zeros(size, PAIR), 0
    for row, places in enumerate(lists):
        while len(places):
            part, places = np.split(places, [size - filled])
            pairs[filled : filled + len(part)]["row"] = row
            pairs[filled : filled + len(part)]["candidate"] = part
            filled += len(part)
            if filled == size:
                yield pairs
                pairs, filled = np.zeros(size, PAIR), 0
    if filled:
        yield pairs[:filled]


def _kept(pairs: np.ndarray, top: int) -> np.ndarray:
    """The best ``top`` pairs of every row, in the order of rows."""
    pairs = pairs[np.lexsort((pairs["candidate"], -pairs["score"], pairs["row"]))]
    place = np.arange(len(pairs)) - np.searchsorted(pairs["row"], pairs["row"])  # in its row, from 0
    return pairs[place < top]


def _found(rows: pa.RecordBatch, candidates: Candidates, pairs: np.ndarray) -> pa.RecordBatch:
    row, candidate = pa.array(pairs["row"]), pairs["candidate"]
    columns = {
        "user_id": rows.column("user_id").take(row),
        "user_idx": rows.column("user_idx").take(row),
        "item_id": pa.array(candidates.ids[candidate], pa.string()),
        "item_idx": pa.array(candidates.inputs["item_idx"][candidate], pa.int32()),
        "score": pa.array(pairs["score"]),
    }
    return pa.RecordBatch.from_pydict(columns)
