"""What every source yields: events, items and users in one shape, not yet checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

RAW = "raw"
ROW_JSON = "row_json"
LEFT_OUT = "event_type left out"  # the verdict of rows that the configuration does not want
VERDICT = "verdict"  # null: nothing against the row yet; else why it is rejected, "rule: value"


@dataclass(frozen=True)
class RawData:
    """Rows of a source in the columns of the bronze tables, each with the raw row and what is wrong with it as a whole.

    A value that cannot be read is null, except `value` and `price`, which are then NaN (null means: not given). A line
    that cannot be taken apart has a verdict (``verdict``) and nulls. Ingest decides what else is accepted.

    Attributes:
        events: rows of the log.
        items: rows of the catalogue.
        users: rows about users.
        daily: every day has raw files of its own, and only those of one day were read.
        notes: what a person should know of the files; complete when the rows have been read.
    """

    events: DataFrame
    items: DataFrame
    users: DataFrame
    daily: bool = False
    notes: Callable[[], list[str]] = list


def no_users(spark: SparkSession) -> DataFrame:
    """The users of a source that lists none."""
    schema = f"user_id STRING, profile MAP<STRING, STRING>, {ROW_JSON} STRING, {VERDICT} STRING"
    return spark.createDataFrame([], schema)


def as_json(rows: DataFrame) -> Column:
    """The raw row as JSON, without its binary columns: a rejected row is not worth a copy of its photo."""
    return F.to_json(F.struct(*[F.col(f"`{name}`") for name, kind in rows.dtypes if kind != "binary"]))


def content_id(*columns: Column) -> Column:
    """An event ID for sources that have none: a hash of the content, so equal events have one ID (32 hex digits)."""
    texts = [column.cast("string").alias(f"c{place}") for place, column in enumerate(columns)]
    return F.substring(F.sha2(F.to_json(F.struct(*texts)), 256), 1, 32)
