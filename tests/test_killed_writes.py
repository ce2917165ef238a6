"""Nights in random order, each killed at another write and run again, leave what one load of everything leaves."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
from pyspark.sql import SparkSession

from akt_spark.conf_file import load
from akt_spark.lake import Lake
from akt_spark.ledger import Ledger
from akt_spark.pipeline import after, run_stage, stage
from akt_spark.stage import Context

FIRST, DAYS = date(2024, 5, 1), 10
STAGES = ("ingest", "build_activity", "build_sequences")
COMPARED = (
    "bronze.events",
    "bronze.items",
    "bronze.users",
    "features.item_activity",
    "features.user_activity",
    "features.user_sequences",
)


class Killed(Exception):
    """Stands for the end of the process."""


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Daily files with late events (up to three days) and equal times, and a catalogue."""
    draw, rows = random.Random(5), {day: [] for day in range(DAYS)}
    for number in range(400):
        happened = draw.randrange(DAYS)
        written = min(happened + draw.choice([0] * 8 + [1, 3]), DAYS - 1)
        at = datetime(2024, 5, 1, 6, tzinfo=UTC) + timedelta(days=happened, hours=draw.randrange(12))
        kind = draw.choice(["impression", "impression", "click", "purchase"])
        rows[written].append((f"e{number}", f"u{draw.randrange(20)}", f"i{draw.randrange(15)}", kind, at))
    columns = ["event_id", "user_id", "item_id", "event_type", "event_time"]
    for day, events in rows.items():
        frame = pd.DataFrame(events, columns=columns).astype({"event_time": "datetime64[us, UTC]"})
        frame.to_parquet(tmp_path / f"events-{FIRST + timedelta(days=day)}.parquet")
    items = pd.DataFrame([(f"i{n}", f"Thing {n}") for n in range(15)], columns=["item_id", "title"])
    items.to_parquet(tmp_path / "items.parquet")
    return tmp_path


def context(spark: SparkSession, raw: Path, lake: str, files: str, ds: date) -> Context:
    source = f"source={{kind: logs, events: {{path: '{raw}/{files}'}}, items: {{path: '{raw}/items.parquet'}}}}"
    gate = ["ingest.max_new_item_share=1.0", "ingest.min_volume=0.0", "features.sequence_length=5"]
    config = load(None, [source, f"lake.root={raw / lake}", *gate])
    return Context(spark, Lake(spark, config.lake.root), config, ds, ds.isoformat())


def night(ctx: Context) -> None:
    ledger = Ledger(ctx.lake, ctx.run_id)
    for name in STAGES:
        ctx = after(ctx, run_stage(ctx, ledger, stage(name)))


def deadly(commit: Callable[..., None], at: int, before: bool) -> Callable[..., None]:
    """A `Lake._commit` that ends the process at its ``at``-th write, before or after it."""
    count = 0

    def write(lake, table, *arguments):
        nonlocal count
        count += 1
        if count == at and before:
            raise Killed(table)
        commit(lake, table, *arguments)
        if count == at:
            raise Killed(table)

    return write


def rows(lake: Lake, table: str) -> list[tuple]:
    return sorted((tuple(row) for row in lake.read(table).collect()), key=str)


@pytest.mark.night
def test_killed_nights_in_random_order_end_as_one_load_of_everything(spark, raw, monkeypatch) -> None:
    draw, commit, killed = random.Random(7), Lake._commit, []
    days = draw.sample(range(DAYS), DAYS)
    for turn, day in enumerate(days):
        ctx = context(spark, raw, "nights", "events-{ds}.parquet", FIRST + timedelta(days=day))
        monkeypatch.setattr(Lake, "_commit", deadly(commit, at=turn + 1, before=bool(turn % 2)))
        try:
            night(ctx)
        except Killed as error:
            killed.append(str(error))
        monkeypatch.setattr(Lake, "_commit", commit)
        night(replace(ctx, lake=Lake(spark, ctx.lake.root)))
    everything = context(spark, raw, "bulk", "events-*.parquet", FIRST + timedelta(days=DAYS))
    night(everything)

    assert len(set(killed)) >= 6, f"kills at {killed}"
    nights = Lake(spark, str(raw / "nights"))
    for table in COMPARED:
        assert rows(nights, table) == rows(everything.lake, table), table
    for entity in ("item", "user"):
        index = {row[0]: row[1] for row in nights.read(f"features.{entity}_index").collect()}
        assert sorted(index.values()) == list(range(1, len(index) + 1))
