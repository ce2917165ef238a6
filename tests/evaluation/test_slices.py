"""Slice membership on a hand-checked table."""

from __future__ import annotations

from pyspark.sql import SparkSession

from akt_spark.evaluation.slices import PLANTED, SLICES, planted_slices, sample_slices

ITEMS = [
    (1, "head", "teacher", [0, 3]),
    (2, "tail", "student", [0, 4]),  # shares code 0 with a teacher
    (3, "cold", "student", [1, 3]),  # its second code is a teacher's, its first is not
    (4, "tail", "student", None),
]
USERS = [(1, "head"), (2, "tail"), (3, "cold")]
SAMPLES = [  # sample, split, user, item, history_length
    ("head_head", "test", 1, 1, 2),
    ("tail_head", "test", 1, 2, 0),
    ("head_tail", "test", 2, 1, 1),
    ("cold_cold", "test", 3, 3, 0),
    ("no_id", "test", 1, 4, 1),
    ("unknown", "test", 99, 99, 0),
    ("not_test", "train", 1, 1, 1),
]
EXPECTED = {
    "head_head": {"all", "head", "item_head", "user_head", "with_history", "cluster_teacher"},
    "tail_head": {
        *("all", "tail", "item_tail", "user_head", "item_tail_user_head", "without_history", "cluster_teacher"),
    },
    "head_tail": {
        *("all", "tail", "item_head", "user_tail", "item_head_user_tail", "with_history", "cluster_teacher"),
    },
    "cold_cold": {
        *("all", "tail", "item_tail", "item_cold", "user_tail", "user_cold", "item_tail_user_tail"),
        *("without_history", "cluster_no_teacher"),
    },
    "no_id": {
        *("all", "tail", "item_tail", "user_head", "item_tail_user_head", "with_history", "cluster_no_teacher"),
    },
    "unknown": {
        *("all", "tail", "item_tail", "item_cold", "user_tail", "user_cold", "item_tail_user_tail"),
        *("without_history", "cluster_no_teacher"),
    },
}


def test_every_test_sample_is_in_the_slices_of_its_item_user_history_and_cluster(spark: SparkSession) -> None:
    items = spark.createDataFrame(ITEMS, "idx int, segment string, role string, codes array<int>")
    users = spark.createDataFrame(USERS, "idx int, segment string")
    samples = spark.createDataFrame(
        SAMPLES, "sample_id string, split string, user_idx int, item_idx int, history_length int"
    )
    found = sample_slices(samples, items, users).collect()
    assert {row["sample_id"]: set(row["slices"]) for row in found} == EXPECTED
    assert all(len(row["slices"]) == len(set(row["slices"])) for row in found)
    assert set().union(*EXPECTED.values()) == set(SLICES) - set(PLANTED)


def test_a_test_sample_is_in_the_planted_slices_of_its_item_and_its_user(spark: SparkSession) -> None:
    items = spark.createDataFrame([(n, f"i{n}") for n in range(1, 7)], "idx int, item_id string")
    users = spark.createDataFrame([(n, f"u{n}") for n in range(1, 7)], "idx int, user_id string")
    ids = [("0", 0), ("3", 3), ("9", 9), ("30", 30), ("control", None)]  # i6 and u6 are neither cut nor a control
    chosen = [(entity, f"{entity[0]}{n}", kept) for entity in ("item", "user") for n, (_, kept) in enumerate(ids, 1)]
    planted = spark.createDataFrame(chosen, "entity string, id string, kept int")
    pairs = [(user, item) for user in range(1, 7) for item in range(1, 7)]
    rows = [(f"{user} {item} {split}", split, user, item) for user, item in pairs for split in ("test", "train")]
    samples = spark.createDataFrame(rows, "sample_id string, split string, user_idx int, item_idx int")
    found = {(row["sample_id"], *row["slices"]) for row in planted_slices(samples, items, users, planted).collect()}
    names = {n: name for n, (name, _) in enumerate(ids, 1)}
    of_items = {(f"{u} {i} test", f"planted_item_{names[i]}") for u, i in pairs if i in names}
    of_users = {(f"{u} {i} test", f"planted_user_{names[u]}") for u, i in pairs if u in names}
    assert found == of_items | of_users
    assert {name for _, name in found} == set(PLANTED)
