"""Crowded semantic IDs: where more ids share one than may, the others take the nearest last code that has room.

Ours. Only the last code gives way, so the clusters of all shorter prefixes stay those of the vectors. What has an ID
keeps it, whatever comes later; of ids that come together, those that would lose the most by their next code keep the
nearest one.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from akt_spark.semantic.arithmetic import Floats
from akt_spark.semantic.assign import ASSIGNED, id_columns
from akt_spark.semantic.quantizer import Codes

GROUPS = 1024  # of prefixes: each is settled by one call


def resolve(ranked: DataFrame, kept: DataFrame, sizes: tuple[int, ...], most: int) -> DataFrame:
    """IDs of which no more than ``most`` are equal, as long as other last codes have room. One shuffle of both.

    Args:
        ranked: what `assign` gives with ``ranked``.
        kept: codes of the IDs that stay.
        sizes: codes a level.
        most: ids that may share a whole ID.

    Returns:
        What `assign` gives.
    """
    taken = kept.groupBy("codes").agg(F.count("*").alias("ids"))
    placed = ranked.groupBy(_group(len(sizes))).cogroup(taken.groupBy(_group(len(sizes))))
    return placed.applyInArrow(partial(_resolve, sizes=sizes, most=most), ASSIGNED)


def _group(levels: int) -> Column:
    return F.pmod(F.xxhash64(F.slice("codes", 1, levels - 1)), F.lit(GROUPS))


def _resolve(ranked: pa.Table, kept: pa.Table, sizes: tuple[int, ...], most: int) -> pa.Table:
    """Of all ids whose prefixes fall into one group."""
    ranked = ranked.sort_by("id")
    codes, taken = (_rows(table.column("codes"), len(sizes)) for table in (ranked, kept))
    distances = _rows(ranked.column("last_distances"), sizes[-1])
    codes = resolved(codes, distances, taken, kept.column("ids").to_numpy(), most)
    distance = np.take_along_axis(distances, codes[:, -1:], axis=1)[:, 0]
    found = Codes(codes, distance, ranked.column("margin").to_numpy())
    return pa.table(id_columns(ranked.column("id"), ranked.column("content_hash"), found, sizes))


def _rows(lists: pa.ChunkedArray, length: int) -> NDArray:
    return lists.combine_chunks().flatten().to_numpy().reshape(-1, length)


def resolved(
    codes: NDArray[np.int32], distances: Floats, taken: NDArray[np.int32], ids: NDArray[np.int64], most: int
) -> NDArray[np.int32]:
    """Codes of which no more than ``most`` are equal, as long as other last codes have room.

    Args:
        codes: (N, L) the nearest ones.
        distances: (N, K) to the codes of the last level.
        taken: (M, L) different codes that are in use.
        ids: (M,) how many use them.
        most: ids that may share all codes.

    Returns:
        Codes (N, L).
    """
    both = np.concatenate([codes, taken])
    prefix = np.unique(both[:, :-1], axis=0, return_inverse=True)[1].reshape(-1)
    of_codes, of_taken = prefix[: len(codes)], prefix[len(codes) :]
    used = np.zeros((prefix.max(initial=-1) + 1, distances.shape[1]), np.int64)
    used[of_taken, taken[:, -1]] = ids
    wanted = used.copy()
    np.add.at(wanted, (of_codes, codes[:, -1]), 1)
    order = np.argsort(of_codes, kind="stable")
    bounds, found = np.searchsorted(of_codes[order], np.arange(len(used) + 1)), codes.copy()
    for group in np.flatnonzero(((wanted > most) & (wanted > used)).any(axis=1)):
        rows = order[bounds[group] : bounds[group + 1]]
        found[rows, -1] = settled(distances[rows], most - used[group])
    return found


def settled(distances: Floats, room: NDArray[np.int64]) -> NDArray[np.int64]:
    """The last code of n ids that share all others.

    An id asks its nearest code. A code keeps those to whom their next code is the farthest beyond it, and the others
    go on and ask that one (deferred acceptance, Gale and Shapley 1962, by regret): distances grow less than if those
    that come first were served first. Who has asked all of them in vain shares the nearest one beyond its limit.

    Args:
        distances: (n, K) to the last codes. Of equal ones the lower code and the earlier row win.
        room: (K,) ids that each code may still take; none where it is not positive.

    Returns:
        Codes (n,).
    """
    asked, refusals = np.argsort(distances, axis=1, kind="stable"), np.zeros(len(distances), np.int64)
    ascending = np.take_along_axis(distances, asked, axis=1)
    regret = np.diff(ascending, axis=1, append=np.float32(np.inf))
    while True:
        asking = np.flatnonzero(refusals < asked.shape[1])
        code = asked[asking, refusals[asking]]
        order = np.lexsort((asking, -regret[asking, refusals[asking]], code))
        place = np.arange(len(order)) - np.searchsorted(code[order], code[order])  # among those that ask one code
        refused = asking[order[place >= room[code[order]]]]
        if not len(refused):
            return asked[np.arange(len(asked)), np.where(refusals < asked.shape[1], refusals, 0)]
        refusals[refused] += 1
