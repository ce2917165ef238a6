"""Stage ``ingest``: raw files to checked bronze tables and dense ids.

Every raw event is accepted, a duplicate, quarantined, or not yet due, and the four add up to what was read. The tables
are written in an order that keeps a killed run harmless: an event is never in the lake before its user and its ids.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import date, timedelta

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from akt_spark.errors import SourceError
from akt_spark.features.ids import extend_index
from akt_spark.features.planted import plant
from akt_spark.lake import BuiltOn, Lake, Table
from akt_spark.sources.accounts import Tally, quarantine, tally
from akt_spark.sources.gate import check_gate
from akt_spark.sources.raw import ROW_JSON
from akt_spark.sources.source import raw_data
from akt_spark.sources.validate import VERDICT, judge_events, judge_items, judge_users
from akt_spark.stage import Context, Outcome


def run(ctx: Context) -> Outcome:
    """Loads the configured source up to and including ``ctx.ds``; a rerun on the same files writes nothing.

    Raises:
        SourceError: raw files are missing, damaged or empty, lack a column, or hold no acceptable row.
        DataError: the data gate is closed; rejected rows are in the quarantine, and nothing else was written. Or too
            few ids have enough events for ``planted``.
        ConfigError: ``planted`` asks for a lake of its own.
    """
    config = ctx.config.ingest
    with raw_data(ctx.spark, ctx.config, ctx.ds) as raw:
        events = judge_events(raw.events, ctx.ds, config if raw.daily else None)
        items = judge_items(_with_content_hash(raw.items)).persist()
        users = judge_users(raw.users)
        accepted = _without_duplicates(events).persist()
        try:
            first_day = ctx.ds - timedelta(days=config.late_days) if raw.daily else None
            outcome = _load(ctx, {"events": events, "items": items, "users": users}, accepted, first_day)
            outcome.notes += raw.notes()
            return outcome
        finally:
            items.unpersist()
            accepted.unpersist()


def _load(ctx: Context, judged: dict[str, DataFrame], events: DataFrame, first_day: date | None) -> Outcome:
    """Writes judged rows; no accepted event is older than ``first_day``, where there is one."""
    lake, tallies, kept = ctx.lake, tally(judged), events.count()
    tallies["events"] = replace(tallies["events"], accepted=kept, duplicates=tallies["events"].accepted - kept)
    quarantined = sum(kind.quarantined for kind in tallies.values())
    quarantine(ctx, judged, quarantined)
    _refuse_nothing(ctx, tallies)
    gated = check_gate(ctx, judged, events, tallies)

    items, users = (_accepted(judged[name]) for name in ("items", "users"))
    stamp = F.xxhash64("content_hash", "first_seen")
    new_items, changed_items = _merge_changed(lake, "bronze.items", lambda: items, stamp)
    profile = F.xxhash64(_as_text("profile"))
    new_users, changed_users = _merge_changed(lake, "bronze.users", lambda: _all_users(lake, users, events), profile)
    catalogue = lake.read("bronze.items").select("item_id")
    strangers = events.select("item_id").distinct().join(catalogue, on="item_id", how="left_anti").persist()
    indexed_items = extend_index(lake, "item", catalogue.union(strangers))
    indexed_users = extend_index(lake, "user", lake.read("bronze.users"))
    new_events = lake.insert_new("bronze.events", events, first_day)
    planted = plant(ctx)

    notes = [
        f"events up to {ctx.ds}: {tallies['events']}; {new_events:,} new",
        f"items: {tallies['items']}; {new_items:,} new, {changed_items:,} changed",
        f"users: {tallies['users']}; {new_users:,} new (with those of the events), {changed_users:,} changed",
        f"index: {indexed_items:,} items and {indexed_users:,} users added",
        *gated,
        *planted,
    ]
    for name, kind in tallies.items():
        notes.extend(f"quarantined {count:,} {name}: {why}" for why, count in kind.rejected.items())
    if unknown := strangers.count():
        notes.append(f"{unknown:,} items of the events are not in the catalogue: they get no semantic ID")
    strangers.unpersist()
    rows, accepted = (sum(getattr(kind, name) for kind in tallies.values()) for name in ("rows", "accepted"))
    return Outcome(rows_in=rows, rows_out=accepted, quarantined=quarantined, notes=notes)


def _with_content_hash(items: DataFrame) -> DataFrame:
    """Adds a hash of everything that an encoder or a ranker can see of an item."""
    seen = ("title", "description", "category", "brand", "price")
    photo = F.sha2(F.col("image"), 256).alias("image")
    content = F.struct(*seen, _as_text("attributes").alias("attributes"), photo)
    return items.withColumn("content_hash", F.substring(F.sha2(F.to_json(content), 256), 1, 32))


def _as_text(map_column: str) -> Column:
    """A map as JSON in the order of its keys: maps themselves can neither be compared nor hashed."""
    return F.to_json(F.array_sort(F.map_entries(map_column)))


def _accepted(judged: DataFrame) -> DataFrame:
    return judged.where(F.col(VERDICT).isNull()).drop(VERDICT, ROW_JSON)


def _without_duplicates(judged: DataFrame) -> DataFrame:
    """Accepted events, one an event_id: the smallest by its columns."""
    accepted = _accepted(judged)
    rest = [name for name in accepted.columns if name != "event_id"]
    one = accepted.groupBy("event_id").agg(F.min(F.struct(*rest)).alias("event"))
    return one.select("event_id", "event.*").withColumn("ds", F.to_date("event_time"))


def _refuse_nothing(ctx: Context, tallies: Mapping[str, Tally]) -> None:
    """Raises where no item or no event is left; the quarantine already says why."""
    for name in ("items", "events"):
        kind = tallies[name]
        if kind.accepted:
            continue
        problem = f"{ctx.config.source.path}: no acceptable row among {kind.rows:,} {name}"
        if kind.not_yet:
            problem += f"; {kind.not_yet:,} events are later than --ds {ctx.ds}: choose a later day"
        if kind.rejected:
            reasons = ", ".join(f"{count:,} {why}" for why, count in kind.rejected.items())
            problem += f"; quarantined: {reasons} (see bronze.quarantine)"
        raise SourceError(problem)


def _all_users(lake: Lake, listed: DataFrame, events: DataFrame) -> DataFrame:
    """Users that the source lists, and those of the events that neither it nor the lake knows."""
    lake.register("bronze.users")
    empty = F.create_map().cast("map<string,string>")
    known = listed.select("user_id").union(lake.read("bronze.users").select("user_id"))
    unlisted = events.select("user_id").distinct().join(known, on="user_id", how="left_anti")
    everybody = listed.unionByName(unlisted, allowMissingColumns=True)
    return everybody.withColumn("profile", F.coalesce("profile", empty))


def _merge_changed(lake: Lake, table: str, rows: Callable[[], DataFrame], stamp: Column) -> tuple[int, int]:
    """Merges rows that are new or whose stamp differs; no commit where there is none. Returns (new, changed)."""
    lake.register(table)
    (key,) = Table.load(table).key

    def work() -> tuple[int, int]:
        version = lake.version(table)
        known = lake.read(table, version).select(key, stamp.alias("known"))
        compared = rows().withColumn("stamp", stamp).join(known, on=key, how="left")
        different = compared.where(~F.col("stamp").eqNullSafe(F.col("known")))
        count, changed = different.agg(F.count("*"), F.count("known")).head()
        if count:
            write = lake.merge if changed else lake.append
            write(table, different.drop("stamp", "known"), on=BuiltOn(version))
        return count - changed, changed

    return lake.retried(table, work)
