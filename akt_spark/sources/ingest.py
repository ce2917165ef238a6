"""Stage ``ingest``: raw files to checked bronze tables and dense ids.

Every raw event is accepted, a duplicate, quarantined, or not yet due, and the four add up to what was read. The tables
are written in an order that keeps a killed run harmless: an event is never in the lake before its user and its ids.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from akt_spark.config import MovieLensSource
from akt_spark.errors import SourceError
from akt_spark.features.ids import extend_index
from akt_spark.lake import Lake, Table
from akt_spark.sources import movielens, shop
from akt_spark.sources.files import existing, readable
from akt_spark.sources.fingerprint import raw_files
from akt_spark.sources.raw import ROW_JSON, RawData
from akt_spark.sources.validate import NOT_YET, VERDICT, judge_events, judge_items, judge_users, rule
from akt_spark.stage import Context, Outcome

NO_PROFILE = "map()"


@dataclass(frozen=True)
class Tally:
    """Where the raw rows of one kind went."""

    rows: int
    accepted: int
    rejected: Mapping[str, int]
    duplicates: int = 0
    not_yet: int = 0

    @property
    def quarantined(self) -> int:
        """Rejected rows."""
        return sum(self.rejected.values())

    def __str__(self) -> str:
        parts = {"duplicates": self.duplicates, "quarantined": self.quarantined, "not yet due": self.not_yet}
        added = [f" + {count:,} {name}" for name, count in parts.items() if count]
        return f"{self.rows:,} rows read = {self.accepted:,} accepted{''.join(added)}"


def run(ctx: Context) -> Outcome:
    """Loads the configured source up to and including ``ctx.ds``; a rerun on the same files writes nothing.

    Raises:
        SourceError: raw files are missing, damaged or empty, lack a column, or hold no acceptable row.
    """
    with _raw_data(ctx) as raw:
        events = judge_events(raw.events, ctx.ds)
        items = judge_items(_with_content_hash(raw.items)).persist()
        users = judge_users(raw.users)
        accepted = _without_duplicates(events).persist()
        try:
            return _load(ctx, {"events": events, "items": items, "users": users}, accepted)
        finally:
            items.unpersist()
            accepted.unpersist()


def _load(ctx: Context, judged: dict[str, DataFrame], events: DataFrame) -> Outcome:
    tallies, kept = _tallies(judged), events.count()
    tallies["events"] = replace(tallies["events"], accepted=kept, duplicates=tallies["events"].accepted - kept)
    quarantined = sum(tally.quarantined for tally in tallies.values())
    _quarantine(ctx, judged, quarantined)
    _refuse_nothing(ctx, tallies)

    items = judged["items"].where(F.col(VERDICT).isNull()).drop(VERDICT, ROW_JSON)
    new_items, changed_items = _merge_changed(ctx.lake, "bronze.items", items, F.xxhash64("content_hash", "first_seen"))
    users = _all_users(ctx.lake, judged["users"].where(F.col(VERDICT).isNull()), events)
    new_users, changed_users = _merge_changed(ctx.lake, "bronze.users", users, F.xxhash64(_as_text("profile")))
    catalogue = ctx.lake.read("bronze.items").select("item_id")
    strangers = events.select("item_id").distinct().join(catalogue, on="item_id", how="left_anti")
    indexed_items = extend_index(ctx.lake, "item", catalogue.union(strangers))
    indexed_users = extend_index(ctx.lake, "user", ctx.lake.read("bronze.users"))
    new_events = ctx.lake.insert_new("bronze.events", events.withColumn("ds", F.to_date("event_time")))

    return Outcome(
        rows_in=tallies["events"].rows,
        rows_out=kept,
        quarantined=quarantined,
        notes=[
            f"events up to {ctx.ds}: {tallies['events']}; {new_events:,} new",
            f"items: {tallies['items']}; {new_items:,} new, {changed_items:,} changed",
            f"users: {tallies['users']}; {new_users:,} new (with those of the events), {changed_users:,} changed",
            f"index: {indexed_items:,} items and {indexed_users:,} users added",
            *(
                f"quarantined {n:,} {name}: {why}"
                for name, t in tallies.items()
                for why, n in sorted(t.rejected.items())
            ),
            *_note_strangers(strangers.count()),
        ],
    )


@contextmanager
def _raw_data(ctx: Context) -> Iterator[RawData]:
    source = ctx.config.source
    path = existing(source.path)
    with readable([path, *raw_files(ctx.config)]):
        if isinstance(source, MovieLensSource):
            with movielens.unpacked(path) as folder:
                yield movielens.read(ctx.spark, folder, source, content_until=ctx.config.split.train_end(ctx.ds))
        else:
            yield shop.read(ctx.spark, source)


def _with_content_hash(items: DataFrame) -> DataFrame:
    """Adds a hash of everything that an encoder or a ranker can see of an item."""
    seen = ("title", "description", "category", "brand", "price")
    photo = F.sha2(F.col("image"), 256).alias("image")
    content = F.struct(*seen, _as_text("attributes").alias("attributes"), photo)
    return items.withColumn("content_hash", F.substring(F.sha2(F.to_json(content), 256), 1, 32))


def _as_text(map_column: str) -> Column:
    """A map as JSON in the order of its keys: maps themselves can neither be compared nor hashed."""
    return F.to_json(F.array_sort(F.map_entries(map_column)))


def _without_duplicates(judged: DataFrame) -> DataFrame:
    """Accepted events, one an event_id: the smallest by its columns."""
    accepted = judged.where(F.col(VERDICT).isNull()).drop(VERDICT, ROW_JSON)
    rest = [name for name in accepted.columns if name != "event_id"]
    one = accepted.groupBy("event_id").agg(F.min(F.struct(*rest)).alias("event"))
    return one.select("event_id", "event.*")


def _tallies(judged: Mapping[str, DataFrame]) -> dict[str, Tally]:
    """Counts all raw rows by verdict, in one job."""
    verdicts = [
        rows.select(F.lit(name).alias("name"), rule(F.col(VERDICT)).alias("rule")) for name, rows in judged.items()
    ]
    counts = {name: Counter[str | None]() for name in judged}
    for name, broken_rule, count in reduce(DataFrame.union, verdicts).groupBy("name", "rule").count().collect():
        counts[name][broken_rule] = count
    return {
        name: Tally(
            rows=verdict.total(),
            accepted=verdict[None],
            rejected={why: count for why, count in verdict.items() if why not in (None, NOT_YET)},
            not_yet=verdict[NOT_YET],
        )
        for name, verdict in counts.items()
    }


def _quarantine(ctx: Context, judged: Mapping[str, DataFrame], count: int) -> None:
    """Replaces what this run quarantined before, unless it is the same."""
    table, where = "bronze.quarantine", f"run_id = '{ctx.run_id}'"
    ctx.lake.register(table)
    before = ctx.lake.read(table).where(where)
    if not count and before.isEmpty():
        return
    run = (F.lit(ctx.ds).alias("ds"), F.lit(ctx.run_id).alias("run_id"))
    rejected = [
        frame.where(F.col(VERDICT) != NOT_YET).select(
            F.lit(source).alias("source"), F.col(VERDICT).alias("reason"), ROW_JSON, *run
        )
        for source, frame in judged.items()
    ]
    rows = reduce(DataFrame.union, rejected)
    before = before.select(rows.columns)
    if not (rows.exceptAll(before).isEmpty() and before.exceptAll(rows).isEmpty()):
        ctx.lake.overwrite(table, rows, where)


def _refuse_nothing(ctx: Context, tallies: Mapping[str, Tally]) -> None:
    """Raises where no item or no event is left; the quarantine already says why."""
    for name in ("items", "events"):
        tally = tallies[name]
        if tally.accepted == 0:
            later = (
                f"; {tally.not_yet:,} events are later than --ds {ctx.ds}: choose a later day" if tally.not_yet else ""
            )
            reasons = ", ".join(f"{count:,} {why}" for why, count in sorted(tally.rejected.items()))
            rejected = f"; quarantined: {reasons} (see bronze.quarantine)" if reasons else ""
            raise SourceError(
                f"{ctx.config.source.path}: no acceptable row among {tally.rows:,} {name}{later}{rejected}"
            )


def _all_users(lake: Lake, listed: DataFrame, events: DataFrame) -> DataFrame:
    """Users that the source lists, and those of the events that neither it nor the lake knows."""
    lake.register("bronze.users")
    listed = listed.select(
        "user_id", F.coalesce("profile", F.expr(NO_PROFILE).cast("map<string,string>")).alias("profile")
    )
    known = listed.select("user_id").union(lake.read("bronze.users").select("user_id"))
    unlisted = events.select("user_id").distinct().join(known, on="user_id", how="left_anti")
    return listed.union(unlisted.select("user_id", F.expr(NO_PROFILE).cast("map<string,string>")))


def _merge_changed(lake: Lake, table: str, rows: DataFrame, stamp: Column) -> tuple[int, int]:
    """Merges rows that are new or whose stamp differs; no commit where there is none. Returns (new, changed)."""
    lake.register(table)
    (key,) = Table.load(table).key
    known = lake.read(table).select(key, stamp.alias("known"))
    compared = rows.withColumn("stamp", stamp).join(known, on=key, how="left")
    different = compared.where(~F.col("stamp").eqNullSafe(F.col("known")))
    count, changed = different.agg(F.count("*"), F.count("known")).head()
    if count:
        lake.merge(table, different.drop("stamp", "known"))
    return count - changed, changed


def _note_strangers(count: int) -> list[str]:
    return [f"{count:,} items of the events are not in the catalogue: they get no semantic ID"] if count else []
