"""The planted tail: who is cut, what stays of them, and that nothing of what is cut, or comes later, is known."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from by_hand import TRAIN_END, write_semantic_and_content
from pyspark.sql import functions as F

import akt_spark
from akt_spark.conf_file import load
from akt_spark.content.align_items import mine_pairs
from akt_spark.errors import ConfigError, DataError
from akt_spark.features import activity, planted, samples, sequences
from akt_spark.features.activity import activity_log, daily_counts
from akt_spark.features.log import click_log
from akt_spark.features.negatives import planted_activity, popularity_gains, uniform_gains
from akt_spark.features.planted import KEPT
from akt_spark.lake import Lake
from akt_spark.stage import Context

DS, USERS, ITEMS, SHARE = date(2024, 1, 31), 100, 110, 0.5
TABLES = ("features.item_activity", "features.user_activity", "features.user_sequences", "content.item_pairs")
PLANTED = [f"planted.share={SHARE}", "features.sequence_length=6"]


@pytest.fixture(scope="module")
def events(random_events) -> list:
    """A month of impressions, a third of which are clicked a minute later; the first ids have the most."""
    draw, start, log = random.Random(8), datetime(2024, 1, 1, tzinfo=UTC), []
    (event,) = random_events(seed=1, count=1)
    for number in range(16_000):
        at = start + timedelta(days=draw.randrange(33), seconds=draw.randrange(86_000))
        user, item = f"u{int(USERS * draw.random() ** 1.1)}", f"i{int(ITEMS * draw.random() ** 1.1)}"
        event = replace(event, user_id=user, item_id=item, event_order=None)
        log.append(replace(event, event_id=f"e{number}", event_type="impression", event_time=at))
        if draw.random() < 0.3:
            late = at + timedelta(minutes=1)
            log.append(replace(event, event_id=f"c{number}", event_type="click", event_time=late))
    return log


def in_training(event) -> bool:
    return event.event_time.date() <= TRAIN_END


@pytest.fixture(scope="module")
def lake(spark, tmp_path_factory, frame, events) -> Lake:
    """A lake with what the stages of features read, written by hand."""
    lake = Lake(spark, str(tmp_path_factory.mktemp("planted") / "lake"))
    lake.overwrite("bronze.events", frame(events))
    for entity, count in (("user", USERS), ("item", ITEMS)):
        index = [(f"{entity[0]}{n}", n + 1) for n in range(count)]
        lake.overwrite(f"features.{entity}_index", spark.createDataFrame(index, f"{entity}_id string, idx int"))
    item = {"item_id": "i0", "title": "t", "content_hash": "h"}
    lake.overwrite("bronze.items", spark.createDataFrame([item], lake.schema("bronze.items")))
    lake.overwrite("bronze.users", spark.createDataFrame([("u0", {})], lake.schema("bronze.users")))
    return lake


def context_of(lake: Lake, *settings: str) -> Context:
    return Context(lake.spark, lake, load(None, [f"lake.root={lake.root}", *PLANTED, *settings]), DS, "run")


@pytest.fixture(scope="module")
def ctx(lake) -> Context:
    """The lake after ingestion has planted ids."""
    ctx = context_of(lake)
    (ctx_items, ctx_users) = planted.plant(ctx)
    assert "items each keep 0, 3, 9, 30 exposures up to 2024-01-25" in ctx_items and "users each keep" in ctx_users
    return ctx


@pytest.fixture(scope="module")
def kept(ctx) -> dict[str, dict[str, int | None]]:
    """How many exposures each planted item and user keeps; None for a control."""
    found = defaultdict(dict)
    for row in ctx.lake.read(planted.TABLE).collect():
        found[row["entity"]][row["id"]] = row["kept"]
    return found


@pytest.mark.night
def test_in_every_tenth_of_popularity_each_count_is_kept_by_equally_many(ctx, kept, events) -> None:
    rows = ctx.lake.read(planted.TABLE).collect()
    for entity in ("item", "user"):
        sizes = Counter((row["tenth"], row["kept"]) for row in rows if row["entity"] == entity)
        tenths = {tenth for tenth, _ in sizes}
        assert tenths == set(range(1, 11))
        assert all(len({sizes[tenth, n] for n in KEPT}) == 1 for tenth in tenths)
        assert sum(sizes[tenth, n] for tenth in tenths for n in KEPT) >= 20
        assert sum(sizes[tenth, None] for tenth in tenths) >= 20
    counts = Counter(event.item_id for event in events if event.event_type == "impression" and in_training(event))
    of_items = [row for row in rows if row["entity"] == "item"]
    assert all(30 < row["exposures"] < counts[row["id"]] for row in of_items)
    by_tenth = [max(row["exposures"] for row in of_items if row["tenth"] == tenth) for tenth in range(1, 11)]
    assert by_tenth == sorted(by_tenth)


@pytest.mark.night
def test_the_choice_is_a_function_of_log_and_seed(ctx, frame, events) -> None:
    early = [event for event in events if in_training(event)]
    rows = ctx.lake.read(planted.TABLE)

    def chosen(rows, **changes) -> set:
        config = ctx.config.planted.model_copy(update=changes)
        return {tuple(row) for row in planted.choice(rows, config, ctx.config.segments).collect()}

    scattered = frame(random.Random(1).sample(early, len(early))).repartition(5)
    assert chosen(scattered) == {tuple(row) for row in rows.collect()}
    of_items = {row for row in chosen(frame(early), entities=["item"])}
    assert {row[0] for row in of_items} == {"item"}
    other = {row[1] for row in chosen(frame(early), entities=["item"], seed=2) if row[-1] is not None}
    mine = {row[1] for row in of_items if row[-1] is not None}
    assert mine != other and mine & other


@pytest.mark.night
def test_planted_ids_keep_their_exposures_with_the_clicks_on_them_and_all_later_events(ctx, kept, events) -> None:
    left = {row["event_id"] for row in click_log(ctx).collect()}
    by_id = {event.event_id: event for event in events}
    assert {e.event_id for e in events if not in_training(e)} <= left
    exposures, own = {"item": Counter(), "user": Counter()}, Counter()
    for event in events:
        counts = [kept[entity].get(getattr(event, f"{entity}_id")) for entity in ("item", "user")]
        if not in_training(event) or event.event_type != "impression":
            continue
        if counts == [None, None]:
            assert event.event_id in left  # unchosen ids are as they were with each other
        elif None not in counts:
            assert event.event_id not in left
        elif event.event_id in left:
            for entity in ("item", "user"):
                exposures[entity][getattr(event, f"{entity}_id")] += 1
    for entity in ("item", "user"):
        assert {key: exposures[entity][key] for key, n in kept[entity].items() if n is not None} == {
            key: n for key, n in kept[entity].items() if n is not None
        }
    clicks = [e for e in events if e.event_type == "click" and f"e{e.event_id[1:]}" in by_id and in_training(e)]
    for click in clicks:
        own[(click.event_id in left) == (f"e{click.event_id[1:]}" in left)] += 1
    assert own[True] > 0.99 * len(clicks)  # a click belongs to the latest impression of the pair
    assert sum(event.event_id not in left for event in events) > 3000


@pytest.fixture(scope="module")
def built(ctx) -> Context:
    """The lake after the stages that read the log."""
    write_semantic_and_content(ctx.lake)
    for stage in (activity, sequences, samples):
        stage.run(ctx)
    mine_pairs(ctx)
    return ctx


@pytest.mark.night
def test_what_is_known_of_planted_ids_stands_still_after_training_and_every_test_row_is_there(
    built, kept, events
) -> None:
    rows = built.lake.read("training.samples").where("split = 'test'").collect()
    shown = [e for e in events if e.event_type == "impression" and e.event_time.date() > TRAIN_END + timedelta(days=1)]
    assert {row["sample_id"] for row in rows} == {e.event_id for e in shown if e.event_time.date() <= DS}
    moved = Counter()
    for entity in ("item", "user"):
        frozen = {row["idx"]: row for row in built.lake.read(f"training.{entity}s").collect()}
        for row in rows:
            last = frozen[row[f"{entity}_idx"]]
            same = row[f"{entity}_activity"][:4] == last["activity"][:4]  # the fifth is the age
            n = kept[entity].get(last[f"{entity}_id"])
            assert same or n is None
            assert n is None or last["impressions"] == n
            moved[entity, n is None] += not same
    assert moved["item", True] > 100 and moved["user", True] > 100
    known = defaultdict(set)
    for row in rows:
        known[row["user_idx"]].add(tuple(row["history"]))
    users = {row["user_id"]: row["idx"] for row in built.lake.read("features.user_index").collect()}
    histories = {user: known[idx] for user, idx in users.items() if known[idx]}
    assert all(len(seen) == 1 for user, seen in histories.items() if kept["user"].get(user) is not None)
    assert all(seen == {(0,) * 6} for user, seen in histories.items() if kept["user"].get(user) == 0)
    assert sum(len(seen) > 1 for seen in histories.values()) > 20


@pytest.mark.night
def test_no_table_changes_when_what_is_cut_was_never_there(built, tmp_path) -> None:
    """The leak test: the same ids planted in a log that holds only what is left of them."""
    other = Lake(built.spark, str(tmp_path / "lake"))
    other.overwrite("bronze.events", click_log(built))
    for table in ("bronze.planted", "bronze.items", "bronze.users", "features.item_index", "features.user_index"):
        other.overwrite(table, built.lake.read(table))
    again = replace(context_of(other), lake=other)
    write_semantic_and_content(other)
    for stage in (activity, sequences, samples):
        stage.run(again)
    mine_pairs(again)
    for table in (*TABLES, "training.samples", "training.items", "training.users"):
        one, two = (lake.read(table) for lake in (built.lake, other))
        assert one.count() == two.count() > 50 and one.exceptAll(two).isEmpty(), table


def test_only_ingestion_reads_the_log_past_the_cut() -> None:
    package = Path(akt_spark.__path__[0])
    direct = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if any(
            f"{call}({name}" in path.read_text()
            for call in ("read", "read_rows")
            for name in ('"bronze.events', "EVENTS")
        )
    }
    # the gate of ingestion, who is planted, the cut itself; what follows the log rebuilds where it is cut; the weights
    # of drawn negatives
    assert direct == {
        *("sources/gate.py", "features/planted.py", "features/log.py", "features/follow.py", "features/samples.py")
    }


@pytest.mark.night
def test_negatives_are_drawn_by_the_cut_log_in_training_and_by_the_whole_one_afterwards(
    ctx, frame, events, kept
) -> None:
    until_ds = frame([event for event in events if event.event_time.date() <= DS])
    whole = activity_log(daily_counts(until_ds, "item"), "item")
    cut = activity_log(daily_counts(click_log(ctx).where(F.col("ds") <= F.lit(DS)), "item"), "item")
    log = planted_activity(cut, until_ds, TRAIN_END)

    def weights(log, day: date) -> dict[str, int]:
        gains = popularity_gains(log, ["click"]).where(F.col("day") < F.lit(day))
        return {
            row["item_id"]: row["weight"]
            for row in gains.groupBy("item_id").agg(F.sum("weight").alias("weight")).collect()
        }

    first, last = TRAIN_END + timedelta(days=1), DS
    assert weights(log, TRAIN_END) == weights(cut, TRAIN_END) != weights(whole, TRAIN_END)
    assert weights(log, first) == weights(whole, first) and weights(log, last) == weights(whole, last)
    live = {row["item_id"]: row["day"] for row in uniform_gains(log, ctx.lake.read("bronze.items")).collect()}
    of_cut = {row["item_id"]: row["day"] for row in uniform_gains(cut, ctx.lake.read("bronze.items")).collect()}
    assert live == {item: min(of_cut.get(item, TRAIN_END), TRAIN_END) for item in live}
    assert {live[item] for item, n in kept["item"].items() if n == 0} == {TRAIN_END}  # drawn from the next day on


@pytest.mark.night
def test_a_lake_is_planted_once(ctx) -> None:
    version = ctx.lake.version(planted.TABLE)
    planted.plant(ctx)
    assert ctx.lake.version(planted.TABLE) == version
    with pytest.raises(DataError, match=r"fewer than 4 items were drawn .* more than 30 exposures up to 2024-01-25"):
        planted.plant(context_of(ctx.lake, "planted.share=0.01"))
    write_semantic_and_content(ctx.lake)  # an encoder among it
    with pytest.raises(ConfigError, match=r"encoders that were trained on another log.*lake\.root of its own"):
        planted.plant(context_of(ctx.lake, "planted.seed=2"))
    assert planted.plant(context_of(ctx.lake, "planted.share=0")) == []
