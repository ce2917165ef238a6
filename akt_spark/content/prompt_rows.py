"""What prompts tell of users, as columns: windowed clicks, activity, and labels of items."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

EPOCH = date(1970, 1, 1)


def day_number(day: date) -> int:
    """A day as Spark's ``unix_date`` counts it."""
    return (day - EPOCH).days


def leaf() -> Column:
    """The leaf category of a catalogue row, as ``leaf``."""
    return F.try_element_at("category", F.lit(-1)).alias("leaf")


def item_label() -> Column:
    """What a prompt calls a catalogue row, as ``label``: leaf category > title."""
    return F.concat_ws(" > ", F.try_element_at("category", F.lit(-1)), F.col("title")).alias("label")


def daily_activity(events: DataFrame, last_day: date, kinds: Sequence[str], first: int | None = None) -> DataFrame:
    """user_id, day INT, clicks (events of these kinds), buys, of the days up to ``last_day`` with any event at all.

    Args:
        events: the log.
        last_day: nothing later is looked at.
        kinds: what counts as a click.
        first: number of the first day; None: all.
    """
    known = events.where(F.col("ds") <= F.lit(last_day))
    if first is not None:
        known = known.where(F.unix_date("ds") >= first)
    return known.groupBy("user_id", F.unix_date("ds").alias("day")).agg(
        F.count_if(F.col("event_type").isin(*kinds)).alias("clicks"),
        F.count_if(F.col("event_type") == "purchase").alias("buys"),
    )


def prompt_inputs(
    users: DataFrame, events: DataFrame, kinds: Sequence[str], as_of: date, days: int | None
) -> DataFrame:
    """What the prompt of every user tells as of the end of a day.

    Args:
        users: of `user_inputs`.
        events: the log; nothing after ``as_of`` is looked at.
        kinds: what counts as a click.
        as_of: the last day that may be known.
        days: how many days back it looks; None: all.

    Returns:
        user_id, history ARRAY<STRING> (item ids, oldest first), told STRING, activity ARRAY<INT> (levels of active
        days, clicks and buys: the bits of each count), content_hash (of all these, and of the content of the items).
    """
    first = 0 if days is None else day_number(as_of) + 1 - days
    counts = (
        daily_activity(events, as_of, kinds, first if days else None)
        .groupBy("user_id")
        .agg(F.count("*").alias("active"), F.sum("clicks").alias("clicks"), F.sum("buys").alias("buys"))
    )
    known = F.arrays_zip("history", "contents", "days")
    return (
        users.join(counts, on="user_id", how="left")
        .withColumn("seen", F.filter(known, lambda click: click["days"] >= first))
        .select(
            "user_id",
            F.col("seen.history").alias("history"),
            "told",
            F.array(*map(_level, ("active", "clicks", "buys"))).alias("activity"),
            F.col("seen.contents").alias("contents"),
        )
        .withColumn("content_hash", F.sha2(F.to_json(F.struct("history", "contents", "told", "activity")), 256))
        .drop("contents")
    )


def _level(name: str) -> Column:
    """The bits that a count takes, as `int.bit_length`."""
    count = F.coalesce(F.col(name), F.lit(0))
    return F.when(count == 0, 0).otherwise(F.length(F.bin(count))).cast("int")
