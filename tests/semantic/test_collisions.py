"""Crowded IDs make room by their last code, and only by that."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
from pyspark.sql import DataFrame, SparkSession
from scipy.optimize import linear_sum_assignment

from akt_spark.semantic.assign import assign
from akt_spark.semantic.collisions import resolve, resolved, settled
from akt_spark.semantic.rqvae import RqVae

from .test_assign import stored, table

SIZES = (16, 8, 8)
MOST = 4


def test_who_would_lose_the_most_keeps_a_code_and_the_others_take_their_next_one():
    distances = np.array([[1, 2, 9], [0, 3, 9], [2, 1.5, 0.5], [3, 4, 5]], np.float32)
    assert settled(distances, np.array([4, 4, 4])).tolist() == [0, 0, 2, 0]
    assert settled(distances, np.array([1, 4, 4])).tolist() == [1, 0, 2, 1]
    assert settled(distances, np.array([1, 4, -3])).tolist() == [1, 0, 1, 1]


def test_where_no_code_has_room_ids_share_their_nearest():
    distances = np.array([[1, 2], [1, 2], [2, 1]], np.float32)
    assert settled(distances, np.array([0, 0])).tolist() == [0, 0, 1]


def test_equal_rows_are_dealt_in_their_order():
    assert settled(np.zeros((5, 3), np.float32), np.array([2, 1, 2])).tolist() == [0, 0, 1, 2, 2]


def test_distances_grow_less_than_if_ids_were_served_in_their_order():
    """Beyond the least that the limits allow: the exact solution of the assignment problem."""
    draw, beyond = np.random.default_rng(1), np.zeros(2)
    for _ in range(20):
        distances, room = (draw.random((60, 7)) + np.arange(7) / 5).astype(np.float32), np.full(7, 10)
        codes = settled(distances, room)
        assert (np.bincount(codes, minlength=7) <= room).all()
        slots = np.repeat(np.arange(7), room)
        rows, chosen = linear_sum_assignment(distances[:, slots])
        in_order, left = 0.0, room.copy()
        for row in distances:
            code = np.where(left > 0, row, np.inf).argmin()
            left[code] -= 1
            in_order += row[code]
        least = distances[rows, slots[chosen]].sum()
        beyond += distances[np.arange(60), codes].sum() - least, in_order - least
    assert 0 < beyond[0] < 0.8 * beyond[1]


def test_what_is_there_stays_and_prefixes_do_not_change():
    draw, most = np.random.default_rng(2), 14
    distances = draw.random((200, 4)).astype(np.float32)
    codes = np.column_stack([draw.integers(0, 6, 200), distances.argmin(axis=1)]).astype(np.int32)
    taken, ids = np.array([[0, 0], [5, 3]], np.int32), np.array([14, 2])
    found = resolved(codes, distances, taken, ids, most)
    assert (found[:, 0] == codes[:, 0]).all()
    there = Counter({(0, 0): 14, (5, 3): 2})
    wanted, given = (Counter(map(tuple, rows.tolist())) + there for rows in (codes, found))
    assert max(wanted.values()) > most
    assert max(given.values()) <= most
    crowded = {prefix for (prefix, _), n in wanted.items() if n > most}
    assert crowded < set(range(6))
    assert set(codes[(found != codes).any(axis=1), 0].tolist()) == crowded


def test_spark_resolves_as_one_process_and_later_ids_find_room_beside_earlier_ones(
    spark: SparkSession, fitted: RqVae, vectors: np.ndarray, tmp_path: Path
) -> None:
    fitted.save(tmp_path / "model")
    rows = stored(table(spark, vectors[:600]).repartition(3), tmp_path)

    def assigned(where: str, kept: DataFrame) -> dict:
        ranked = assign(rows.where(where), str(tmp_path / "model"), ranked=True)
        return {row["id"]: row for row in resolve(ranked, kept, SIZES, MOST).collect()}

    nothing = spark.createDataFrame([], "codes ARRAY<INT>")
    first = assigned("id < 'i00400'", nothing)
    nearest, distances = fitted.encode(vectors[:400]), fitted.last_distances(vectors[:400])
    none = np.empty((0, 3), np.int32)
    expected = resolved(nearest.codes, distances, none, np.empty(0, np.int64), MOST)
    assert (expected != nearest.codes).any()
    assert [first[f"i{n:05d}"]["codes"] for n in range(400)] == expected.tolist()
    for row in first.values():
        x = vectors[int(row["id"][1:]), None]
        assert row["sid"] == "-".join(map(str, row["codes"]))
        assert row["offset_codes"] == [row["codes"][0], 16 + row["codes"][1], 24 + row["codes"][2]]
        assert np.float32(row["distance"]) == fitted.last_distances(x)[0, row["codes"][2]]
        assert np.float32(row["margin"]) == fitted.encode(x).margin[0]

    kept = spark.createDataFrame([(row["codes"],) for row in first.values()], "codes ARRAY<INT>")
    both = [tuple(row["codes"]) for found in (first, assigned("id >= 'i00400'", kept)) for row in found.values()]
    assert len(both) == 600
    full = {prefix for prefix, n in Counter(codes[:2] for codes in both).items() if n > 8 * MOST}
    counts = {codes: n for codes, n in Counter(both).items() if codes[:2] not in full}
    assert len(counts) > 50
    assert max(counts.values()) == MOST
    again = assigned("id < 'i00000'", kept)
    assert again == {}
