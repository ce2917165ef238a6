from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from math import ceil, expm1

import pyarrow.parquet as pq
import pytest
from by_hand import TRAIN_END, write_semantic_and_content
from deltalake import DeltaTable
from oracle import Oracle, differences
from pyspark.sql import functions as F

from akt_spark.conf_file import load
from akt_spark.errors import ConfigError, DataError, MissingInput
from akt_spark.features import activity, samples
from akt_spark.features.activity import ENTITIES, activity_log, daily_counts
from akt_spark.features.blocks import block_counts, placed_in_blocks
from akt_spark.features.labels import labelled_impressions
from akt_spark.features.lookups import ITEM_ATTRIBUTES, lookup_rows
from akt_spark.lake import Lake
from akt_spark.stage import Context, Outcome

DS = date(2024, 1, 31)
LENGTH, BLOCK_ROWS = 6, 100
FEATURES = ("day", "user_idx", "item_idx", "history_length", "history", "user_activity", "item_activity")


@dataclass(frozen=True)
class Built:
    """What one run of the stage left: rows by key, rows file by file, and row groups of every file."""

    outcome: Outcome
    samples: dict
    items: dict
    users: dict
    files: list[list[dict]]
    row_groups: list[int]


def read(lake: Lake, outcome: Outcome) -> Built:
    rows = {name: lake.read(f"training.{name}").collect() for name in ("samples", "items", "users")}
    files = [pq.ParquetFile(uri) for uri in DeltaTable(lake.path("training.samples")).file_uris()]
    return Built(
        outcome,
        samples={row["sample_id"]: row.asDict() for row in rows["samples"]},
        items={row["item_id"]: row.asDict() for row in rows["items"]},
        users={row["user_id"]: row.asDict() for row in rows["users"]},
        files=[f.read(columns=["sample_id", "split", "history"]).to_pylist() for f in files],
        row_groups=[f.num_row_groups for f in files],
    )


@pytest.fixture(scope="module")
def events(random_events):
    """A random log, in whose last days a user and an item appear for the first time."""
    draw, log = random.Random(12), random_events(seed=11, count=2500)
    newcomers = [{}] * 8 + [{"user_id": "late"}, {"item_id": "fresh"}]
    return [replace(e, **draw.choice(newcomers)) if e.event_time.day >= 27 else e for e in log]


@pytest.fixture(scope="module")
def world(spark, tmp_path_factory, frame, events) -> Context:
    """A lake with everything that the stage reads, written by hand."""
    root = tmp_path_factory.mktemp("samples") / "lake"
    lake = Lake(spark, str(root))
    settings = ["spark.shuffle_partitions=2", f"features.sequence_length={LENGTH}", f"samples.block_rows={BLOCK_ROWS}"]
    config = load(None, [f"lake.root={root}", *settings])

    def write(table: str, rows: list[tuple], columns: str) -> None:
        lake.overwrite(table, spark.createDataFrame(rows, columns))

    users, items = (sorted({getattr(e, key) for e in events}) for key in ("user_id", "item_id"))
    lake.overwrite("bronze.events", frame(events))
    write("features.user_index", [(u, n) for n, u in enumerate(users, 1)], "user_id string, idx int")
    write("features.item_index", [(i, n) for n, i in enumerate([*items, "cold"], 1)], "item_id string, idx int")
    nothing = (None, None, None, None, None, "hash")
    catalogue = "item_id string, title string, description string, category array<string>, brand string, price double, "
    write(
        "bronze.items",
        [
            ("i0", "t", None, ["shoes", "boots"], "acme", 8.1, *nothing[2:]),
            ("i1", "t", None, ["shoes", "boots"], "shoes", 9.9, *nothing[2:]),
            ("i2", "t", None, ["shoes", "x", "y", "boots"], None, 80.0, *nothing[2:]),
            ("cold", "t", None, None, None, None, *nothing[2:]),
        ],
        catalogue + "attributes map<string,string>, image binary, first_seen date, content_hash string",
    )
    profiles = [
        ("u0", {"b": "2", "a": "1"}),
        ("u1", {k: k for k in "vwxyz"}),
        ("u2", {"b": "2", "a": None}),
        ("u3", {}),
    ]
    write("bronze.users", profiles, "user_id string, profile map<string,string>")
    write_semantic_and_content(lake)
    activity.run(Context(spark, lake, config, DS, "run"))
    return Context(spark, lake, config, DS, "run")


@pytest.fixture(scope="module")
def built(world) -> Built:
    return read(world.lake, samples.run(world))


def test_every_impression_up_to_ds_is_one_sample_in_the_split_of_its_day(built, events):
    expected = {
        e.event_id: "train" if e.event_time.date() <= TRAIN_END else "validation" if e.event_time.day == 26 else "test"
        for e in events
        if e.event_type == "impression" and e.event_time.date() <= DS
    }
    assert {key: row["split"] for key, row in built.samples.items()} == expected
    assert built.outcome.rows_out == len(expected)
    assert [note.split(":")[0] for note in built.outcome.notes] == ["train", "validation", "test"]


def test_a_thousand_samples_equal_those_of_a_slow_oracle(world, built, events):
    indices = [{key: row["idx"] for key, row in rows.items()} for rows in (built.items, built.users)]
    until_ds = [event for event in events if event.event_time.date() <= DS]
    oracle = Oracle(until_ds, *indices, world.config, DS, first_seen={})
    impressions = [event for event in until_ds if event.event_type == "impression"]
    chosen = random.Random(3).sample(impressions, 1000)
    wrong = {
        event.event_id: names
        for event in chosen
        if (names := differences(built.samples[event.event_id], oracle.row(event, event.item_id, oracle.label(event))))
    }
    assert wrong == {}
    rows = [built.samples[event.event_id] for event in chosen]  # the log is one in which mistakes would show
    assert 50 < sum(row["label"] for row in rows) < 500
    assert 50 < sum(row["history_length"] < LENGTH for row in rows) < 950
    assert any(e.user_id == "late" for e in chosen) and any(e.item_id == "fresh" for e in chosen)
    assert any(row["item_activity"][4] == 0 for row in rows) and any(row["user_activity"][4] == 0 for row in rows)


def activity_counts(vector: list[float]) -> tuple[int, int]:
    """Clicks and age back from an activity vector."""
    return round(expm1(vector[0])), round(expm1(vector[4]))


def test_no_feature_of_a_sample_changes_with_events_at_or_after_a_cut(world, built, events, frame):
    """The leak test: everything from a time on is deleted, moved, relabelled or added to."""
    cut, draw = datetime(2024, 1, 28, 0, 15, tzinfo=UTC), random.Random(5)
    before = [event for event in events if event.event_time < cut]
    after = [event for event in events if event.event_time >= cut]
    assert any(event.event_time == cut for event in after)
    other = {"impression": "click", "click": "impression", "cart": "purchase", "purchase": "cart"}
    flipped = [replace(e, event_type=other[e.event_type], item_id="i0") for e in after if draw.random() < 0.7]
    added = [replace(e, event_id=f"new-{e.event_id}", event_type="click", user_id="u0") for e in after]
    changed = frame([event for event in before + flipped + added if event.event_time.date() <= DS])
    logs = {entity: activity_log(daily_counts(changed, entity), entity) for entity in ENTITIES}
    indices = {entity: world.lake.read(f"features.{entity}_index") for entity in ENTITIES}
    config = world.config
    labelled = labelled_impressions(changed, config.features.click_window_minutes).select(*samples.IDENTITY, "label")
    rows = samples.sample_features(labelled, changed, logs, indices, config.features).collect()
    found = {row["sample_id"]: row for row in rows}

    kept = [event.event_id for event in before if event.event_type == "impression"]
    expected = {key: [built.samples[key][name] for name in FEATURES] for key in kept}
    assert {key: [found[key][name] for name in FEATURES] for key in kept} == expected
    on_the_day = [key for key in kept if built.samples[key]["day"] == cut.date()]
    assert on_the_day and sum(built.samples[key]["history_length"] > 0 for key in kept) > 500
    assert set(found) != set(built.samples)  # the change did reach the samples after the cut


def test_without_the_events_after_training_no_feature_of_a_training_sample_changes(world, built, events, frame):
    """Neither what a sample holds nor what the ranker looks up for its item."""
    known = frame([event for event in events if event.event_time.date() <= TRAIN_END])
    logs = {entity: activity_log(daily_counts(known, entity), entity) for entity in ENTITIES}
    indices = {entity: world.lake.read(f"features.{entity}_index") for entity in ENTITIES}
    features = world.config.features
    labelled = labelled_impressions(known, features.click_window_minutes).select(*samples.IDENTITY, "label")
    rows = samples.sample_features(labelled, known, logs, indices, features).collect()
    train = {key: row for key, row in built.samples.items() if row["split"] == "train"}
    assert {row["sample_id"]: [row[name] for name in FEATURES] for row in rows} == {
        key: [row[name] for name in FEATURES] for key, row in train.items()
    }
    table = "features.item_activity"
    whole = world.lake.read(table).collect()
    try:
        world.lake.overwrite(table, logs["item"])
        looked_up = lookup_rows(world, "item").collect()
    finally:
        world.lake.overwrite(table, world.spark.createDataFrame(whole, world.lake.schema(table)))
    assert {row["item_id"]: row.asDict() for row in looked_up} == built.items


def test_a_file_is_one_row_group_of_one_split_and_of_about_a_block(built):
    assert set(built.row_groups) == {1}
    splits = [{row["split"] for row in file} for file in built.files]
    assert all(len(split) == 1 for split in splits)
    rows = Counter(row["split"] for row in built.samples.values())
    assert Counter(min(split) for split in splits) == {split: ceil(n / BLOCK_ROWS) for split, n in rows.items()}
    assert all(len(file) < 1.5 * BLOCK_ROWS for file in built.files)


@pytest.mark.night
def test_a_rerun_writes_identical_rows_in_identical_files(world, built):
    again = read(world.lake, samples.run(world))
    assert again.samples == built.samples and again.items == built.items and again.users == built.users
    assert sorted(again.files, key=str) == sorted(built.files, key=str)


def test_small_training_data_still_gives_every_rank_two_files():
    rows = {"train": 300, "validation": 0, "test": 8193}
    assert block_counts(rows, 8192, train_blocks=4) == {"train": 4, "validation": 0, "test": 2}
    assert block_counts(rows | {"train": 9 * 8192}, 8192, train_blocks=4)["train"] == 9


@pytest.mark.parametrize("counts", [{"train": 1, "test": 0}, {"train": 20, "test": 13}])
def test_every_block_is_one_partition_and_the_seed_moves_samples(spark, counts):
    is_test = "id % 3 = 0" if counts["test"] else "false"
    rows = spark.range(4000).selectExpr("string(id) sample_id", f"IF({is_test}, 'test', 'train') split")

    def partitions(seed: int) -> list:
        placed = placed_in_blocks(rows, counts, seed).groupBy(F.spark_partition_id().alias("partition"))
        found = placed.agg(F.count("*"), F.count_distinct("split"), F.sum("sample_id")).orderBy("partition")
        return [tuple(row) for row in found.collect()]

    first = partitions(seed=1)
    assert [partition for partition, *_ in first] == list(range(sum(counts.values())))
    assert sum(count for _, count, *_ in first) == 4000
    assert all(splits == 1 for *_, splits, _ in first)
    assert first == partitions(seed=1) and (len(first) == 1 or first != partitions(seed=2))


def test_look_ups_hold_every_id_of_the_index_as_of_the_end_of_training(built, events):
    assert sorted(row["idx"] for row in built.items.values()) == list(range(1, len(built.items) + 1))
    cold = built.items["cold"]
    assert (cold["impressions"], cold["segment"], cold["role"], cold["category"]) == (0, "cold", "student", 0)
    assert (
        cold["activity"] == pytest.approx([0.0, 0.0, 0.0, 0.05, 0.0])
        and cold["codes"] is None
        and cold["vector"] is None
    )
    for item, row in built.items.items():
        seen = [e for e in events if e.item_id == item and e.event_time.date() <= TRAIN_END]
        assert row["impressions"] == sum(e.event_type == "impression" for e in seen)
        clicks, age = activity_counts(row["activity"])
        assert row["clicks"] == clicks == sum(e.event_type == "click" for e in seen)
        assert age == (max((TRAIN_END - min(e.event_time.date() for e in seen)).days + 1, 0) if seen else 0)


def test_look_ups_hold_codes_of_the_codebooks_that_are_asked_for(world):
    def other_codes(**named: str) -> dict:
        samples = world.config.samples.model_copy(update={"codebooks": named})
        ctx = replace(world, config=world.config.model_copy(update={"samples": samples}))
        return {row["item_id"]: row["other_codes"] for row in lookup_rows(ctx, "item").collect()}

    found = other_codes(before="old", candidate="next")
    assert found["i0"] == {"before": [3, 3], "candidate": [0, 0]} and found["i1"] is None
    assert set(other_codes().values()) == {None}
    with pytest.raises(ConfigError, match=r"samples\.codebooks\.x: no item codebook 'lost'; there are .*next"):
        other_codes(x="lost")


@pytest.mark.parametrize("entity", ["item", "user"])
def test_look_ups_take_the_published_codes_and_the_newest_usable_vector(built, entity):
    rows = built.items if entity == "item" else built.users
    first = rows[f"{entity[0]}0"]
    assert (first["codes"], first["codebook_version"], first["vector"]) == ([1, 2], "now", [0.5, 0.25])
    assert rows[f"{entity[0]}1"]["codes"] is None and rows[f"{entity[0]}1"]["vector"] is None


def test_attributes_are_buckets_by_name_and_value_with_zero_for_missing(built):
    i0, i1, i2 = (dict(zip(ITEM_ATTRIBUTES, built.items[f"i{n}"]["attributes"], strict=True)) for n in range(3))
    assert i0["category_1"] == i1["category_1"] == i2["category_1"] > 0
    assert i0["leaf_category"] == i2["leaf_category"] and i0["category_2"] != i2["category_2"]
    assert (i0["category_3"], i2["brand"]) == (0, 0)
    assert i0["price_band"] == i1["price_band"] != i2["price_band"]
    assert i1["brand"] != i1["category_1"]  # equal values of different attributes
    assert built.items["i0"]["category"] == i0["leaf_category"]
    assert built.items["cold"]["attributes"] == built.items["i9"]["attributes"] == [0] * 6
    u0, u1, u2, u3 = (built.users[f"u{n}"]["attributes"] for n in range(4))
    assert u0[2:] == [0, 0] and 0 not in u1 and u2[:2] == [0, u0[1]] and u3 == [0] * 4
    assert built.users["u0"]["category"] == 0


def test_a_split_without_training_samples_says_which_days_there_are(world):
    early = replace(world, ds=date(2024, 1, 4))
    with pytest.raises(DataError, match=r"no train samples .* from 2024-01-01 to 2024-01-04; .*ends on 2023-12-29"):
        samples.run(early)


def test_a_log_without_impressions_names_the_key_to_set(world, frame, log):
    clicks = log(("u0", "i0", "click", "2024-01-02 10:00"))
    with pytest.raises(DataError, match=r"no impressions up to .*samples.negatives .*'uniform' or 'popularity'"):
        samples._rows_per_split(world, clicks)
    drawn = load(None, ["samples.negatives=uniform", "samples.positive_events=[purchase]"])
    with pytest.raises(DataError, match=r"no purchase up to --ds 2024-01-31, which samples.positive_events names"):
        samples._rows_per_split(replace(world, config=drawn), clicks)


def test_an_id_without_an_index_ends_the_job(spark, world):
    logs = {entity: world.lake.read(f"features.{entity}_activity") for entity in ENTITIES}
    lacking = world.lake.read("features.item_index").where("item_id != 'i3'")
    with pytest.raises(DataError, match=r"item 'i3', which features.item_index lacks: run jobs/ingest.py"):
        samples._check_indexed(logs, {"item": lacking, "user": world.lake.read("features.user_index")})


def test_missing_semantic_ids_name_their_job(context):
    for table in ("features.item_activity", "features.item_index", "bronze.items"):
        context.lake.register(table)
    with pytest.raises(MissingInput, match=r"semantic.* run jobs/build_semantic_ids.py"):
        lookup_rows(context, "item")
