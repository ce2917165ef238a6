"""Anybody's log and catalogue: tables in their own formats, read by the mapping in the configuration."""

from __future__ import annotations

from datetime import date
from functools import reduce
from pathlib import Path

from pyspark.accumulators import Accumulator
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from akt_spark.config_sources import EventsSource, FolderSource, ItemsSource, LogsSource, TableSource, UsersSource
from akt_spark.sources.files import existing, resolve
from akt_spark.sources.images import fetched, photos
from akt_spark.sources.raw import LEFT_OUT, VERDICT, RawData, content_id, no_users
from akt_spark.sources.tables import Part, read_parts
from akt_spark.sources.typed import typed


def from_folder(source: FolderSource) -> LogsSource:
    """A folder of events.parquet, items.parquet and perhaps users.parquet, all in our own names."""
    root = existing(source.path)
    users = root / "users.parquet"
    return LogsSource(
        events=EventsSource(path=str(root / "events.parquet"), format="parquet"),
        items=ItemsSource(path=str(root / "items.parquet"), format="parquet"),
        users=UsersSource(path=str(users), format="parquet") if users.exists() else None,
    )


def raw_files(source: LogsSource, ds: date) -> list[Path]:
    """The files and folders that this source reads on a day."""
    tables = [table for table in (source.events, source.items, source.users) if table]
    images = [existing(source.items.images)] if source.items.images else []
    return [*(path for table in tables for path in resolve(table.path, ds)), *images]


def read(spark: SparkSession, source: LogsSource, ds: date) -> RawData:
    """Reads the tables; of paths with ``{ds}`` the files of that day.

    Raises:
        SourceError: a file is missing, damaged or empty, or a column is missing or of an impossible type.
    """
    parts = {
        name: _parts(spark, table, ds)
        for name, table in (("events", source.events), ("items", source.items), ("users", source.users))
        if table
    }
    failures = spark.sparkContext.accumulator(0)

    def notes() -> list[str]:
        unused = [note for name in parts for note in _unused(name, parts[name], getattr(source, name))]
        missing = [f"photos that could not be fetched: {failures.value:,}; their items have none"]
        return [*unused, *(missing if failures.value else [])]

    users = _together(parts["users"], source.users) if source.users else no_users(spark)
    return RawData(
        _events(_together(parts["events"], source.events), source.events),
        _items(spark, _together(parts["items"], source.items), source.items, failures),
        users,
        daily=source.events.daily,
        notes=notes,
    )


def _parts(spark: SparkSession, table: TableSource, ds: date) -> list[Part]:
    """Raw rows. A column that the mapping names must be there; others of ours are taken where they are."""
    constant = isinstance(table, EventsSource) and table.event_type
    needed = set(table.REQUIRED) - ({"event_type"} if constant else set()) | set(table.columns)
    required = [theirs for ours in table.TYPES if ours in needed for theirs in table.theirs(ours)]
    optional = [theirs for ours in table.TYPES for theirs in table.theirs(ours)]
    return read_parts(spark, table, [*required, *_mapped(table)], optional, ds)


def _mapped(table: TableSource) -> list[str]:
    """Their columns that go into a map."""
    if isinstance(table, ItemsSource):
        return table.attributes
    return table.profile if isinstance(table, UsersSource) else []


def _unused(name: str, parts: list[Part], table: TableSource) -> list[str]:
    used = {theirs.partition(".")[0] for ours in table.TYPES for theirs in table.theirs(ours)} | {*_mapped(table)}
    unused = dict.fromkeys(column for part in parts for column in part.columns if column not in used)
    return [f"{name}: columns that are not used: {', '.join(unused)}"] if unused else []


def _together(parts: list[Part], table: TableSource) -> DataFrame:
    return reduce(DataFrame.union, [typed(part, table) for part in parts])


def _events(rows: DataFrame, source: EventsSource) -> DataFrame:
    """Events of our types: a row that means several is several events, one that means none gets a verdict."""
    kind = F.col("event_type")
    types, ignored = _types(kind, source)
    events = rows.withColumn(VERDICT, F.coalesce(VERDICT, ignored))
    events = events.select("*", F.posexplode(F.when(F.col(VERDICT).isNull(), types).otherwise(F.array(kind))))
    events = events.withColumn("event_type", F.col("col"))
    later = F.concat_ws("-", "event_id", F.when(F.col("pos") > 0, F.col("col")))  # one id an event
    identity = content_id(*[F.col(name) for name in source.TYPES if name != "event_id"])
    own = F.when(F.col("event_id").isNotNull(), later)
    return events.withColumn("event_id", F.coalesce(own, identity)).drop("pos", "col")


def _types(kind: Column, source: EventsSource) -> tuple[Column, Column]:
    """Our types of a row of theirs, itself where the mapping does not know it; and why it is left out."""
    nothing = F.lit(None).cast("string")
    if source.event_type:
        return _array(source.event_type), nothing
    mapped = {theirs: ours for theirs, ours in source.event_types.items() if ours}
    ignored = [theirs for theirs, ours in source.event_types.items() if not ours]
    types = F.array(kind)
    for theirs, ours in mapped.items():
        types = F.when(kind == theirs, _array(ours)).otherwise(types)
    return types, F.when(kind.isin(ignored), F.concat(F.lit(f"{LEFT_OUT}: "), kind)) if ignored else nothing


def _array(types: list[str]) -> Column:
    return F.array(*map(F.lit, types))


def _items(spark: SparkSession, items: DataFrame, source: ItemsSource, failures: Accumulator[int]) -> DataFrame:
    """The catalogue with its photos: in a column, behind a URI, or in a place of their own."""
    if "image_uri" in source.columns:
        found = fetched(F.col("image_uri"), source.image_resolver, failures)
        items = items.withColumn("image", F.coalesce("image", found))
    if source.images:
        items = items.withColumnRenamed("image", "own").join(photos(spark, existing(source.images)), "item_id", "left")
        items = items.withColumn("image", F.coalesce("own", "image")).drop("own")
    return items.drop("image_uri")
