"""A folder of events, items and users as Parquet: what the shop generator writes, and the way in for one's own logs.

| file | required columns | optional columns |
|---|---|---|
| events.parquet | user_id, item_id, event_type, event_time | event_id, event_order, value |
| items.parquet | item_id, title | description, category, brand, price, attributes, image, first_seen |
| users.parquet (optional) | user_id | profile |

Each may be a file or a folder of files. ``event_time`` is a timestamp (UTC) or a text that Spark reads as one.
"""

from __future__ import annotations

from pathlib import Path

from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from akt_spark.errors import SourceError
from akt_spark.sources.files import check_parquet, existing
from akt_spark.sources.raw import ROW_JSON, RawData, as_json, content_id, no_users, number

EVENTS, ITEMS, USERS = "events.parquet", "items.parquet", "users.parquet"
EVENT_TYPES = {
    "event_id": "string",
    "user_id": "string",
    "item_id": "string",
    "event_type": "string",
    "event_time": "timestamp",
    "event_order": "bigint",
    "value": "double",
}
ITEM_TYPES = {
    "item_id": "string",
    "title": "string",
    "description": "string",
    "category": "array<string>",
    "brand": "string",
    "price": "double",
    "attributes": "map<string,string>",
    "image": "binary",
    "first_seen": "date",
}
USER_TYPES = {"user_id": "string", "profile": "map<string,string>"}


def raw_files(path: str) -> list[Path]:
    """The files and folders that a source of this layout reads."""
    root = existing(path)
    return [root / name for name in (EVENTS, ITEMS, USERS) if name != USERS or (root / name).exists()]


def read(spark: SparkSession, path: str) -> RawData:
    """Reads the folder.

    Raises:
        SourceError: a file is missing, damaged or empty, or a column is missing or of an impossible type.
    """
    root = existing(path)
    check_parquet(root / EVENTS, ("user_id", "item_id", "event_type", "event_time"))
    check_parquet(root / ITEMS, ("item_id", "title"))
    events = _table(spark, root / EVENTS, EVENT_TYPES)
    identity = content_id(*[F.col(name) for name in EVENT_TYPES if name != "event_id"])
    events = events.withColumn("event_id", F.coalesce("event_id", identity))
    items = _table(spark, root / ITEMS, ITEM_TYPES)
    if not (root / USERS).exists():
        return RawData(events, items, no_users(spark))
    check_parquet(root / USERS, ("user_id",))
    return RawData(events, items, _table(spark, root / USERS, USER_TYPES))


def _table(spark: SparkSession, path: Path, types: dict[str, str]) -> DataFrame:
    try:
        rows = spark.read.parquet(str(path))  # refuses column types that Spark does not have
        columns = [_read_as(name, kind, rows.columns).alias(name) for name, kind in types.items()]
        return rows.select(*columns, as_json(rows).alias(ROW_JSON))
    except AnalysisException as error:
        wanted = ", ".join(f"{name} {kind}" for name, kind in types.items())
        reason = str(error).splitlines()[0]
        raise SourceError(f"{path}: columns are not of the types needed ({wanted}): {reason}") from None


def _read_as(name: str, kind: str, present: list[str]) -> Column:
    if name not in present:
        return F.lit(None).cast(kind)
    return number(F.col(name)) if kind == "double" else F.col(name).try_cast(kind)
