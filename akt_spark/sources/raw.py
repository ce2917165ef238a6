"""What every source yields: events, items and users in one shape, not yet checked."""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

ROW_JSON = "row_json"


@dataclass(frozen=True)
class RawData:
    """Rows of a source in the columns of the bronze tables, each with ``row_json``: the raw row as it was read.

    A value that cannot be read is null, except `value` and `price`, which are then NaN (null means: not given).
    Ingest decides what is accepted. ``daily``: the events are those of one day's files, which no later night reads.
    """

    events: DataFrame
    items: DataFrame
    users: DataFrame
    daily: bool = False


def no_users(spark: SparkSession) -> DataFrame:
    """The users of a source that lists none."""
    return spark.createDataFrame([], f"user_id STRING, profile MAP<STRING, STRING>, {ROW_JSON} STRING")


def as_json(rows: DataFrame) -> Column:
    """The raw row as JSON, without its binary columns: a rejected row is not worth a copy of its photo."""
    return F.to_json(F.struct(*[name for name, kind in rows.dtypes if kind != "binary"]))


def number(column: Column) -> Column:
    """A DOUBLE; null stays null, and what is no number becomes NaN so that ingest can tell the two apart."""
    read = column.try_cast("double")
    return F.when(column.isNotNull() & read.isNull(), F.lit(float("nan"))).otherwise(read)


def content_id(*columns: Column) -> Column:
    """An event ID for sources that have none: a hash of the content, so equal events have one ID (32 hex digits)."""
    texts = [column.cast("string").alias(f"c{place}") for place, column in enumerate(columns)]
    return F.substring(F.sha2(F.to_json(F.struct(*texts)), 256), 1, 32)
