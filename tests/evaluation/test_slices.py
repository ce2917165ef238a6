"""Slice membership on hand-checked tables."""

from __future__ import annotations

from pyspark.sql import SparkSession

from akt_spark.evaluation.slices import FAMILIES, FAMILY_OF, PLANTED, SLICES, planted_slices, sample_slices

LOOKUP = "idx int, impressions bigint, segment string, role string, codes array<int>"
SAMPLE = "sample_id string, split string, user_idx int, item_idx int, history_length int"

ITEMS = [
    (1, 90, "head", "teacher", [0, 3]),
    (2, 3, "tail", "student", [0, 4]),  # shares code 0 with a teacher
    (3, 0, "cold", "student", [1, 3]),  # its second code is a teacher's, its first is not
    (4, 3, "tail", "student", None),
]
USERS = [(1, 20, "head", "none", None), (2, 2, "tail", "none", None), (3, 0, "cold", "none", None)]
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


def slices_of(spark: SparkSession, samples: list, items: list, users: list) -> dict[str, set[str]]:
    """By sample; nothing is named twice."""
    found = sample_slices(
        spark.createDataFrame(samples, SAMPLE),
        spark.createDataFrame(items, LOOKUP),
        spark.createDataFrame(users, LOOKUP),
    ).collect()
    assert all(len(row["slices"]) == len(set(row["slices"])) for row in found)
    return {row["sample_id"]: set(row["slices"]) for row in found}


def test_every_test_sample_is_in_the_slices_of_its_item_user_history_and_cluster(spark: SparkSession) -> None:
    found = slices_of(spark, SAMPLES, ITEMS, USERS)
    whole = {*FAMILIES["paper"].slices, *FAMILIES["breakdown"].slices}
    assert {sample: slices & whole for sample, slices in found.items()} == EXPECTED
    assert set().union(*EXPECTED.values()) == whole


def test_deciles_are_of_ids_with_impressions_and_equal_counts_share_one(spark: SparkSession) -> None:
    counts = [0, 0, *range(1, 21)]  # twenty ids with impressions: two a decile
    tied = [0, *[1] * 7, *[2] * 2, 3]  # ten: the middle of the ones is 3.5 tenths from the start, of the twos 8
    items = [(idx, count, "tail", "none", None) for idx, count in enumerate(counts, start=1)]
    users = [(idx, count, "tail", "none", None) for idx, count in enumerate(tied, start=1)]
    samples = [(f"i{idx}", "test", 99, idx, 0) for idx, *_ in items]
    samples += [(f"u{idx}", "test", idx, 99, 0) for idx, *_ in users]
    found = slices_of(spark, samples, items, users)

    def decile(sample: str, entity: str) -> set[int]:
        names = FAMILIES[f"{entity}_decile"].slices
        return {int(name[-2:]) for name in found[sample] if name in names}

    assert [decile(f"i{idx}", "item") for idx, *_ in items] == [set(), set(), *[{1 + n // 2} for n in range(20)]]
    assert [decile(f"u{idx}", "user") for idx, *_ in users] == [set(), *[{4}] * 7, *[{9}] * 2, {10}]


def test_teachers_of_the_first_code_are_counted_and_the_counts_part_the_items_that_have_any(
    spark: SparkSession,
) -> None:
    taught = {0: 1, 1: 3, 2: 4, 3: 15, 4: 16, 5: 0}  # first code: teachers
    items = [
        (1000 * code + number, 5, "head", "teacher", [code, number % 3])
        for code, teachers in taught.items()
        for number in range(1, teachers + 1)
    ]
    items += [(1000 * code, 5, "tail", "student", [code, 0]) for code in taught]
    samples = [(f"s{code}", "test", 1, 1000 * code, 0) for code in taught] + [("teacher", "test", 1, 1, 0)]
    family = FAMILIES["cluster_teachers"]
    found = {sample: slices & set(family.slices) for sample, slices in slices_of(spark, samples, items, []).items()}
    steps = {0: "1_3", 1: "1_3", 2: "4_15", 3: "4_15", 4: "16_63"}
    expected = {f"s{code}": {f"cluster_teachers_{step}"} for code, step in steps.items()}
    assert found == expected | {"s5": set(), "teacher": {"cluster_teachers_1_3"}}


def test_steps_are_named_by_their_family_and_none_is_a_slice() -> None:
    assert set(FAMILY_OF) == set(SLICES)
    for name, family in FAMILIES.items():
        if family.axis:
            assert all(step.startswith(f"{name}_") for step in family.slices)
            assert family.none is None or (family.none in SLICES and family.none not in family.slices)


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
