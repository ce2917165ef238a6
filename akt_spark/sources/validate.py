"""The rules that raw rows must keep. A row that breaks one is quarantined with the first rule that it broke."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import get_args

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from akt_spark.config import IngestConfig
from akt_spark.config_types import EventType
from akt_spark.sources.raw import ROW_JSON, VERDICT

NOT_YET = "not yet"  # the verdict of an event of a later day
MAX_ID_LENGTH = 256
MAX_TEXT_LENGTH = {"title": 2_000, "description": 100_000}
UNPRINTABLE = "[\\x00-\\x1f\\x7f\ufffd]"  # U+FFFD stands where bytes were no UTF-8
WHITESPACE = " \t\r\n\u00a0"
EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)


def judge_events(events: DataFrame, ds: date, daily: IngestConfig | None = None) -> DataFrame:
    """Adds a verdict to raw events.

    Args:
        events: raw events.
        ds: the day of the night.
        daily: given when only the files of this day were read: an event of another day goes to its own day, or is
            rejected when that is too far away, for no other night will see it. Otherwise every night reads all files,
            and an event of a later day is judged when its day has come.
    """
    kind = F.col("event_type")
    return events.withColumn(
        VERDICT,
        F.coalesce(
            VERDICT,
            *_time_rules("event_time"),
            *_day_rules(F.col("event_time"), ds, daily),
            *_id_rules("event_id"),
            *_id_rules("user_id"),
            *_id_rules("item_id"),
            _broken(kind.isNull() | ~kind.isin(*get_args(EventType)), "event_type unknown", kind),
            *_number_rules("value"),
        ),
    )


def judge_items(items: DataFrame) -> DataFrame:
    """Adds a verdict to raw items; of rows with one id the first by ``content_hash`` is kept."""
    judged = items.withColumn(
        VERDICT,
        F.coalesce(
            VERDICT,
            *_id_rules("item_id"),
            F.when(_blank("title"), F.lit("title missing")),
            *(_too_long(name, length) for name, length in MAX_TEXT_LENGTH.items()),
            *_number_rules("price"),
        ),
    )
    return _reject_repeated(judged, "item_id", "content_hash")


def judge_users(users: DataFrame) -> DataFrame:
    """Adds a verdict to raw users; of rows with one id the first by their JSON is kept."""
    return _reject_repeated(users.withColumn(VERDICT, F.coalesce(VERDICT, *_id_rules("user_id"))), "user_id", ROW_JSON)


def judge_requests(rows: DataFrame) -> DataFrame:
    """Adds a verdict to rows that are asked to be scored: of ids, and of a time where they have one."""
    rules = {"event_time": _time_rules, "user_id": _id_rules, "item_id": _id_rules}
    asked = [broken for name, of in rules.items() if name in rows.columns for broken in of(name)]
    return rows.withColumn(VERDICT, F.coalesce(VERDICT, *asked))


def rule(verdict: Column) -> Column:
    """The rule of a verdict, without the value that broke it."""
    return F.split_part(verdict, F.lit(":"), F.lit(1))


def _reject_repeated(rows: DataFrame, key: str, order: str) -> DataFrame:
    # rejected rows come last in their group, so that a valid one is kept
    place = F.row_number().over(Window.partitionBy(key).orderBy(F.col(VERDICT).isNotNull(), order, ROW_JSON))
    repeated = _broken(F.col("place") > 1, f"{key} repeated", F.col(key))
    return rows.withColumn("place", place).withColumn(VERDICT, F.coalesce(VERDICT, repeated)).drop("place")


def _time_rules(name: str) -> Iterator[Column]:
    moment = F.col(name)
    yield F.when(moment.isNull(), F.lit(f"{name} missing or unreadable"))
    absurd = (moment < F.lit(EARLIEST)) | (moment >= F.lit(LATEST))
    yield _broken(absurd, f"{name} before 1970 or after 2199", moment)


def _day_rules(happened: Column, ds: date, daily: IngestConfig | None) -> Iterator[Column]:
    if daily is None:
        yield F.when(happened >= F.lit(_midnight(ds, 1)), F.lit(NOT_YET))
        return
    late, early = daily.late_days, daily.early_days
    yield _broken(
        happened < F.lit(_midnight(ds, -late)), f"event_time more than {late} days before the night", happened
    )
    too_early = happened >= F.lit(_midnight(ds, early + 1))
    yield _broken(too_early, f"event_time more than {early} days after the night", happened)


def _midnight(ds: date, days: int) -> datetime:
    return datetime.combine(ds + timedelta(days=days), time(), UTC)


def _id_rules(name: str) -> Iterator[Column]:
    yield F.when(_blank(name), F.lit(f"{name} missing"))
    yield _too_long(name, MAX_ID_LENGTH)
    yield _broken(F.col(name).rlike(UNPRINTABLE), f"{name} with unreadable or control characters", F.col(name))


def _too_long(name: str, length: int) -> Column:
    return _broken(F.length(name) > length, f"{name} longer than {length} characters", F.col(name))


def _number_rules(name: str) -> Iterator[Column]:
    value = F.col(name)
    yield F.when(F.isnan(value) | (F.abs(value) == float("inf")), F.lit(f"{name} is not a finite number"))


def _blank(name: str) -> Column:
    return F.col(name).isNull() | (F.trim(name, F.lit(WHITESPACE)) == "")


def _broken(condition: Column, broken_rule: str, value: Column) -> Column:
    shown = F.coalesce(F.substring(value.cast("string"), 1, 40), F.lit("null"))
    return F.when(condition, F.concat(F.lit(f"{broken_rule}: "), shown))
