"""Activity and sequences follow the log: whatever the order of nights, they hold what a bulk build of it holds."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from akt_spark.features import activity, sequences
from akt_spark.features.activity import COUNTS
from akt_spark.lake import Lake

LENGTH = 4
TABLES = ("features.item_activity", "features.user_activity", "features.user_sequences")


def bulk_activity(events, entity):
    """Rows of the log, from plain sums over all days up to each."""
    days = defaultdict(list)
    for event in events:
        days[getattr(event, f"{entity}_id")].append(event)
    rows = set()
    for name, own in days.items():
        for day in {event.event_time.date() for event in own}:
            known = [event for event in own if event.event_time.date() <= day]
            counts = [sum(event.event_type == kind for event in known) for kind in COUNTS.values()]
            active = sorted({event.event_time.date() for event in known})
            rows.add((name, day, *counts, len(active), active[0], day))
    return rows


def bulk_sequences(events):
    """Rows (user, newest day, event ids) by a full sort of every user's positive events."""
    own = defaultdict(list)
    for event in events:
        if event.event_type != "impression":
            order = float("inf") if event.event_order is None else event.event_order
            own[event.user_id].append((event.event_time, order, event.event_id))
    newest = {user: sorted(rows, reverse=True)[:LENGTH] for user, rows in own.items()}
    return {(user, rows[0][0].date(), tuple(row[2] for row in rows)) for user, rows in newest.items()}


@pytest.fixture
def night(context, frame):
    """Loads events, runs both stages for a day and returns what the tables hold and what the stages said."""
    features = context.config.features.model_copy(update={"sequence_length": LENGTH})
    config = context.config.model_copy(update={"features": features})
    lake = context.lake

    def run(ds, events=()):
        if events:
            lake.insert_new("bronze.events", frame(list(events)))
        ctx = replace(context, config=config, ds=ds)
        notes = activity.run(ctx).notes + sequences.run(ctx).notes
        logs = [{tuple(row) for row in lake.read(table).collect()} for table in TABLES[:2]]
        newest = lake.read(TABLES[2]).select("user_id", "as_of", "event_ids").collect()
        return [*logs, {(user, day, tuple(ids)) for user, day, ids in newest}], " ".join(notes)

    return run


def bulk(events, until):
    seen = [event for event in events if event.event_time.date() <= until]
    return [bulk_activity(seen, "item"), bulk_activity(seen, "user"), bulk_sequences(seen)]


@pytest.mark.night
def test_after_every_night_the_tables_hold_what_a_bulk_build_holds(night, random_events, context, frame):
    events = random_events(seed=11, count=260)
    loaded = [event for event in events if event.event_time.day <= 10 and event.event_time.month == 1]
    rest = [event for event in events if event not in loaded]
    late, loaded = loaded[::4], [event for n, event in enumerate(loaded) if n % 4]
    on = {day: [event for event in rest if event.event_time.date() == date(2024, 1, day)] for day in (11, 12, 13)}
    far = [event for event in rest if event.event_time.month == 2]

    steps = [  # the day of the night, what is loaded before it, and how many tables are rebuilt
        ("bulk", 10, loaded, 3),
        ("a night, with later days already in the log", 13, on[13] + far, 0),
        ("an older day, with late events beside it", 12, on[11] + on[12] + late, 0),
        ("the same night again", 12, [], 0),
    ]
    held, until, versions = [], 0, []
    for name, day, new, rebuilt in steps:
        held, until = held + new, max(until, day)
        tables, notes = night(date(2024, 1, day), new)
        assert tables == bulk(held, date(2024, 1, until)), name
        assert notes.count("rebuilt") == rebuilt, (name, notes)
        versions.append([context.lake.version(table) for table in TABLES])
    assert versions[3] == versions[2], "nothing new makes no version"

    # a row that leaves the log cannot be followed; a changed parameter neither
    gone = held.pop()
    context.spark.sql(f"DELETE FROM delta.`{context.lake.path('bronze.events')}` WHERE event_id = '{gone.event_id}'")
    tables, notes = night(date(2024, 1, 13))
    assert tables == bulk(held, date(2024, 1, 13))
    assert notes.count("were changed or removed") == 3

    # neither can events whose files are gone, as VACUUM leaves it after a compaction
    path, new = context.lake.path("bronze.events"), random_events(seed=13, count=9)
    new = [event for event in new if event.event_time.date() <= date(2024, 1, 13)]
    held = held + new
    context.lake.insert_new("bronze.events", frame(new))
    added = set(context.lake.read("bronze.events").inputFiles())
    context.spark.sql(f"OPTIMIZE delta.`{path}`")
    for file in added - set(context.lake.read("bronze.events").inputFiles()):
        Path(file.removeprefix("file:")).unlink()
    tables, notes = night(date(2024, 1, 13))
    assert tables == bulk(held, date(2024, 1, 13))
    assert notes.count("is no longer complete") == 3


@pytest.mark.night
def test_two_nights_at_once_lose_nothing(night, random_events, context, monkeypatch):
    events = [event for event in random_events(seed=12, count=120) if event.event_time.month == 1]
    first, last = date(2024, 1, 20), date(2024, 1, 30)
    night(first, [event for event in events if event.event_time.date() <= first])
    extended_log, overtaken = activity.extended_log, []

    def while_the_other_night_runs(*arguments, **late):
        if not overtaken:
            overtaken.append(True)
            activity.run(replace(context, lake=Lake(context.spark, context.lake.root), ds=last))
        return extended_log(*arguments, **late)

    monkeypatch.setattr(activity, "extended_log", while_the_other_night_runs)
    tables, _ = night(date(2024, 1, 25), [event for event in events if event.event_time.date() > first])
    assert tables[:2] == bulk(events, last)[:2]
    assert tables[2] == bulk(events, date(2024, 1, 25))[2]
