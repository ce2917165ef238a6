"""Ingest: every row is accounted for, nothing is loaded twice, damaged files end in a sentence."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from akt_spark.conf_file import load
from akt_spark.errors import SourceError
from akt_spark.lake import Lake
from akt_spark.sources import ingest
from akt_spark.sources.source import raw_data
from akt_spark.stage import Context, Outcome

TABLES = (
    "bronze.events",
    "bronze.items",
    "bronze.users",
    "bronze.quarantine",
    "features.item_index",
    "features.user_index",
)
DAY_1, DAY_2 = date(2024, 1, 1), date(2024, 1, 2)

# event_id, user_id, item_id, event_type, event_time, value
EVENTS = [
    ("e1", "u1", "i1", "impression", "2024-01-01 10:00:00", None),
    ("e1", "u1", "i1", "impression", "2024-01-01 10:00:00", None),  # twice
    ("e2", "u1", "i1", "click", "2024-01-01 10:00:05", None),
    ("e2", "u1", "i2", "click", "2024-01-01 10:00:05", None),  # an id with another content: the smallest stays
    ("e3", "u2", "i9", "impression", "2024-01-01 23:59:59", 1.5),  # i9 is not in the catalogue
    ("e4", "u2", "i2", "impression", "2024-01-02 00:00:00", None),  # of the next day
    ("e5", "u3", "i2", "click", "2024-01-02 08:00:00", None),
    ("b1", "", "i1", "click", "2024-01-01 10:00:00", None),
    ("b2", None, "i1", "click", "2024-01-01 10:00:00", None),
    ("b3", "u1", " \t", "click", "2024-01-01 10:00:00", None),
    ("b4", "u1", "i1", "click", None, None),
    ("b5", "u1", "i1", "click", "soon", None),
    ("b6", "u1", "i1", "click", "1815-12-10 00:00:00", None),
    ("b7", "u1", "i1", "click", "2999-01-01 00:00:00", None),
    ("b8", "u1", "i1", "view", "2024-01-01 10:00:00", None),
    ("b9", "u1", "x" * 300, "click", "2024-01-01 10:00:00", None),
    ("b10", "u1", "i1", "click", "2024-01-01 10:00:00", float("inf")),
]
REJECTED = {
    "user_id missing": 2,
    "item_id missing": 1,
    "event_time missing or unreadable": 2,
    "event_time before 1970 or after 2199": 2,
    "event_type unknown": 1,
    "item_id longer than 256 characters": 1,
    "value is not a finite number": 1,
}
ITEMS = [
    ("i1", "Red teapot", "old text"),
    ("i2", "Blue lamp", None),
    ("i2", "Another lamp", None),
    ("i3", " ", None),
    (None, "?", None),
]


def write_source(folder: Path, events: list[tuple], items: list[tuple], users: list[tuple] | None = None) -> None:
    folder.mkdir(exist_ok=True)
    columns = ("event_id", "user_id", "item_id", "event_type", "event_time", "value")
    # a column of nothing but None would be written without a type
    pd.DataFrame(events, columns=columns).astype({"value": "float64"}).to_parquet(folder / "events.parquet")
    pd.DataFrame(items, columns=("item_id", "title", "description")).to_parquet(folder / "items.parquet")
    if users is not None:
        schema = pa.schema([("user_id", pa.string()), ("profile", pa.map_(pa.string(), pa.string()))])
        rows = [
            {"user_id": user_id, "profile": list(profile.items()) if profile else None} for user_id, profile in users
        ]
        pq.write_table(pa.Table.from_pylist(rows, schema), folder / "users.parquet")


def make_context(spark: SparkSession, source: Path, root: Path, ds: date, run_id: str = "r1") -> Context:
    gate = "ingest.max_rejected_share=1.0"  # these files are dirty on purpose
    config = load(None, [f"source={{kind: folder, path: {source}}}", f"lake.root={root}", gate])
    return Context(spark, Lake(spark, str(root)), config, ds, run_id)


def versions(lake: Lake) -> dict[str, int]:
    return {table: lake.version(table) for table in TABLES}


@dataclass
class Nights:
    """A night, the same night again, and the next one on changed files."""

    lake: Lake
    outcomes: list[Outcome]
    versions: list[dict[str, int]]
    events: list[dict[str, dict]]
    index: list[dict[str, int]]


@pytest.fixture(scope="module")
def nights(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Nights:
    folder = tmp_path_factory.mktemp("nights")
    source, root = folder / "source", folder / "lake"
    write_source(source, EVENTS, ITEMS, [("u1", {"age": "old"}), ("u1", {"age": "young"}), ("u7", None)])
    result = Nights(Lake(spark, str(root)), [], [], [], [])

    def night(ds: date, run_id: str) -> None:
        ctx = make_context(spark, source, root, ds, run_id)
        result.outcomes.append(ingest.run(ctx))
        result.versions.append(versions(ctx.lake))
        result.events.append({row["event_id"]: row.asDict() for row in ctx.lake.read("bronze.events").collect()})
        result.index.append({row["item_id"]: row["idx"] for row in ctx.lake.read("features.item_index").collect()})

    night(DAY_1, "r1")
    night(DAY_1, "r1")
    changed = [("i1", "Red teapot", "new text"), ("a0", "New first item", None)]  # i2 has left the catalogue
    write_source(source, EVENTS[:7], changed, [("u1", {"age": "young"}), ("u2", {"age": "new"})])
    night(DAY_2, "r1")
    return result


def test_every_row_is_accepted_a_duplicate_quarantined_or_not_yet_due(nights: Nights) -> None:
    first = nights.outcomes[0]
    quarantined_events = sum(REJECTED.values())

    assert first.rows_in == 17 + 5 + 3  # events, items, users
    assert first.rows_out == 3 + 2 + 2
    assert len(nights.events[0]) == 3
    assert (
        f"17 rows read = 3 accepted + 2 duplicates + {quarantined_events} quarantined + 2 not yet due" in first.notes[0]
    )
    assert 17 == 3 + 2 + quarantined_events + 2


def test_every_rejected_row_is_kept_with_its_reason(nights: Nights) -> None:
    quarantine = nights.lake.read("bronze.quarantine", version=1).collect()
    rules = Counter((row["source"], row["reason"].split(":")[0]) for row in quarantine)

    assert len(quarantine) == nights.outcomes[0].quarantined
    assert {rule: count for (source, rule), count in rules.items() if source == "events"} == REJECTED
    assert {key: count for key, count in rules.items() if key[0] != "events"} == {
        ("items", "item_id missing"): 1,
        ("items", "item_id repeated"): 1,
        ("items", "title missing"): 1,
        ("users", "user_id repeated"): 1,
    }
    unknown = next(row for row in quarantine if row["reason"] == "event_type unknown: view")
    assert json.loads(unknown["row_json"])["event_id"] == "b8"
    assert (unknown["ds"], unknown["run_id"]) == (DAY_1, "r1")


def test_of_two_rows_with_one_event_id_the_smallest_stays(nights: Nights) -> None:
    assert nights.events[0]["e2"]["item_id"] == "i1"


def test_a_night_loads_its_day_and_nothing_later(nights: Nights) -> None:
    assert set(nights.events[0]) == {"e1", "e2", "e3"}
    assert set(nights.events[2]) == {"e1", "e2", "e3", "e4", "e5"}
    assert {event["ds"] for event in nights.events[0].values()} == {DAY_1}


def test_loading_twice_adds_nothing_and_makes_no_version(nights: Nights) -> None:
    assert nights.versions[1] == nights.versions[0]
    assert nights.outcomes[1].notes[0].endswith("; 0 new")
    assert nights.outcomes[1].quarantined == nights.outcomes[0].quarantined


def test_indices_grow_and_never_change(nights: Nights) -> None:
    assert nights.index[0] == {"i1": 1, "i2": 2, "i9": 3}  # i9 has events only
    assert nights.index[1] == nights.index[0]
    assert nights.index[2] == {**nights.index[0], "a0": 4}
    assert any("1 items of the events are not in the catalogue" in note for note in nights.outcomes[0].notes)


def test_only_changed_items_are_merged_and_none_is_removed(nights: Nights) -> None:
    items = {row["item_id"]: row for row in nights.lake.read("bronze.items").collect()}

    assert items["i1"]["description"] == "new text"
    assert set(items) == {"i1", "i2", "a0"}
    assert "1 new, 1 changed" in nights.outcomes[2].notes[1]


def test_users_of_events_and_of_the_source_are_all_there(nights: Nights) -> None:
    profiles = {row["user_id"]: row["profile"] for row in nights.lake.read("bronze.users").collect()}
    # u1 kept 'old' of two rows, then changed; u7 left the source, and stays; u3 has events only
    assert profiles == {"u1": {"age": "young"}, "u2": {"age": "new"}, "u3": {}, "u7": {}}


def test_the_quarantine_of_a_run_is_replaced_by_that_of_its_rerun(nights: Nights) -> None:
    assert nights.outcomes[0].quarantined == nights.lake.read("bronze.quarantine", version=1).count() > 0
    assert nights.outcomes[2].quarantined == nights.lake.read("bronze.quarantine").count() == 0


def corrupt_page(path: Path) -> None:
    """Overwrites data pages and leaves the footer as it is."""
    damaged = bytearray(path.read_bytes())
    damaged[4:200] = b"\xff" * 196
    path.write_bytes(damaged)


def rewrite(path: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    change(pd.read_parquet(path)).to_parquet(path)


DAMAGE = {
    "missing file": (lambda s: (s / "items.parquet").unlink(), r"items\.parquet does not exist"),
    "truncated": (
        lambda s: (s / "events.parquet").write_bytes((s / "events.parquet").read_bytes()[:-50]),
        r"events\.parquet is not a readable Parquet file.*copy or download it again",
    ),
    "corrupt page": (lambda s: corrupt_page(s / "events.parquet"), r"events\.parquet cannot be read"),
    "empty catalogue": (
        lambda s: rewrite(s / "items.parquet", lambda rows: rows.head(0)),
        r"items\.parquet has no rows",
    ),
    "empty log": (lambda s: rewrite(s / "events.parquet", lambda rows: rows.head(0)), r"events\.parquet has no rows"),
    "missing column": (
        lambda s: rewrite(s / "events.parquet", lambda rows: rows.rename(columns={"event_type": "kind"})),
        r"events\.parquet lacks the column event_type; it has event_id, user_id, item_id, kind",
    ),
    "impossible type": (
        lambda s: rewrite(s / "items.parquet", lambda rows: rows.assign(attributes=1.5)),
        r"items\.parquet: columns are not of the types needed .*attributes map<string,string>",
    ),
    "blank titles": (
        lambda s: rewrite(s / "items.parquet", lambda rows: rows.assign(title="")),
        r"no acceptable row among 2 items; quarantined: 2 title missing \(see bronze\.quarantine\)",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_input_ends_in_a_sentence(spark: SparkSession, tmp_path: Path, damage: str) -> None:
    source = tmp_path / "source"
    write_source(source, EVENTS[:3] * 20, ITEMS[:2])
    apply, message = DAMAGE[damage]
    apply(source)

    with pytest.raises(SourceError, match=message):
        ingest.run(make_context(spark, source, tmp_path / "lake", DAY_1))


def test_a_day_before_the_first_event_is_refused(spark: SparkSession, tmp_path: Path) -> None:
    write_source(tmp_path / "source", EVENTS[:3], ITEMS[:2])

    with pytest.raises(SourceError, match="3 events are later than --ds 2023-12-31: choose a later day"):
        ingest.run(make_context(spark, tmp_path / "source", tmp_path / "lake", date(2023, 12, 31)))


def test_events_without_an_id_get_one_from_their_content(spark: SparkSession, tmp_path: Path) -> None:
    write_source(tmp_path / "source", EVENTS[:3], ITEMS[:2])
    rewrite(tmp_path / "source" / "events.parquet", lambda rows: rows.drop(columns=["event_id", "value"]))

    with raw_data(spark, load(None, [f"source={{kind: folder, path: {tmp_path / 'source'}}}"]), DAY_1) as raw:
        events = raw.events
    ids = [row["event_id"] for row in events.collect()]

    assert ids[0] == ids[1] != ids[2] != ""  # the same impression twice, and a click
