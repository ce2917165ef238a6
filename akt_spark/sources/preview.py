"""What ingest would make of the raw files, in a page, with nothing written: `jobs/ingest.py --dry-run`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import date
from functools import reduce
from operator import or_
from typing import Any, get_args

from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from akt_spark.config import Config
from akt_spark.config_types import EventType
from akt_spark.sources.raw import ROW_JSON, VERDICT
from akt_spark.sources.source import raw_data
from akt_spark.sources.validate import NOT_YET, judge_events, judge_items, judge_users, rule

FIRST_ROWS = 5
CELL, EXAMPLE = 24, 100  # characters
UNKNOWN_TYPES = 10
HIDDEN = (VERDICT, ROW_JSON, "content_hash")


def preview(spark: SparkSession, config: Config, ds: date) -> Iterator[str]:
    """Lines for a person: first rows as mapped, counts, time range, empty columns, what is rejected and why.

    Raises:
        SourceError: raw files are missing, damaged or empty, or lack a column.
    """
    with raw_data(spark, config, ds) as raw:
        events = judge_events(raw.events, ds, config.ingest if raw.daily else None)
        yield from _section("events", events)
        # of two rows with one id, ingest keeps the first by a hash of the content; here it does not matter which
        yield from _section("items", judge_items(raw.items.withColumn("content_hash", F.col(ROW_JSON))))
        yield from _section("users", judge_users(raw.users))
        yield ""
        yield from raw.notes()
    yield "nothing was written; without --dry-run these rows go to the lake"


def _section(name: str, judged: DataFrame) -> Iterator[str]:
    columns = [column for column in judged.columns if column not in HIDDEN]
    groups = _groups(judged, columns)
    rows = sum(group["rows"] for group in groups)
    yield f"\n{name.upper()}  {_rows(rows)}"
    if not rows:
        return
    accepted = [group for group in groups if group["rule"] is None]
    empty = {column: sum(group[column] for group in accepted) for column in columns}
    stored = sum(group["rows"] for group in accepted)
    filled = [column for column in columns if empty[column] < stored]
    if stored:
        first = judged.where(F.col(VERDICT).isNull()).select(filled).limit(FIRST_ROWS).collect()
        yield from _table([list(filled), *([_cell(value) for value in row] for row in first)])
    if name == "events":
        yield from _types(judged, groups)
        yield from _times(accepted)
        if repeated := stored - judged.where(F.col(VERDICT).isNull()).select("event_id").distinct().count():
            yield _line("duplicates", f"{repeated:,} of the accepted repeat another one and are stored once")
    shares = [f"{column} {_share(count, stored)}" for column, count in empty.items() if count]
    if shares:
        yield _line("empty", ", ".join(shares))
    yield from _rejected(groups, rows)


def _groups(judged: DataFrame, columns: Sequence[str]) -> list[Row]:
    """Everything about a table in one job: by type (of ours) and rule, the rows, times, nulls and an example."""
    is_log = "event_type" in columns
    ours = F.when(F.col("event_type").isin(*get_args(EventType)), F.col("event_type")) if is_log else F.lit(None)
    time = F.col("event_time") if is_log else F.lit(None)
    return (
        judged.groupBy(ours.cast("string").alias("type"), rule(F.col(VERDICT)).alias("rule"))
        .agg(
            F.count("*").alias("rows"),
            F.min(time).alias("first"),
            F.max(time).alias("last"),
            F.min(F.struct(VERDICT, ROW_JSON)).alias("example"),
            *[F.count_if(F.col(column).isNull()).alias(column) for column in columns],
        )
        .collect()
    )


def _types(judged: DataFrame, groups: list[Row]) -> Iterator[str]:
    accepted = Counter[str]()
    for group in groups:
        if group["rule"] is None:
            accepted[group["type"]] += group["rows"]
    yield _line("by type", ", ".join(f"{kind} {accepted[kind]:,}" for kind in get_args(EventType) if accepted[kind]))
    broken = [group["rule"] for group in groups if (group["rule"] or "").startswith("event_type")]
    if broken:
        conditions = [rule(F.col(VERDICT)) == broken_rule for broken_rule in set(broken)]
        strange = judged.where(reduce(or_, conditions)).groupBy("event_type").count()
        most = strange.orderBy(F.desc("count"), "event_type").limit(UNKNOWN_TYPES).collect()
        listed = ", ".join(f"{_cell(row['event_type'])} {row['count']:,}" for row in most)
        yield _line("other types", f"{listed}{' ...' if len(most) == UNKNOWN_TYPES else ''} (not stored)")


def _times(accepted: list[Row]) -> Iterator[str]:
    if accepted:
        first, last = min(group["first"] for group in accepted), max(group["last"] for group in accepted)
        yield _line("time (UTC)", f"{first:%Y-%m-%d %H:%M:%S} to {last:%Y-%m-%d %H:%M:%S}")


def _rejected(groups: list[Row], rows: int) -> Iterator[str]:
    later = sum(group["rows"] for group in groups if group["rule"] == NOT_YET)
    if later:
        yield _line("not yet due", f"{_rows(later)} of later days than --ds")
    counts, examples = Counter[str](), dict[str, Row]()
    for group in groups:
        if group["rule"] not in (None, NOT_YET):
            counts[group["rule"]] += group["rows"]
            examples.setdefault(group["rule"], group["example"])
    if not counts:
        yield _line("rejected", "none")
        return
    yield _line("rejected", f"{_rows(counts.total())} ({_share(counts.total(), rows)}), which go to bronze.quarantine")
    for why, count in counts.most_common():
        example = examples[why]
        yield f"    {count:>9,}  {example[VERDICT]}"
        yield f"               {_cut(example[ROW_JSON], EXAMPLE)}"


def _table(rows: list[list[str]]) -> Iterator[str]:
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    for row in rows:
        yield "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _line(what: str, text: str) -> str:
    return f"  {what:<12}{text}"


def _cell(value: Any) -> str:
    """A value as a person reads it, cut to the width of a cell."""
    if isinstance(value, bytearray | bytes):
        return f"{len(value):,} bytes"
    if isinstance(value, list):
        value = " > ".join(value)
    if isinstance(value, dict):
        value = ", ".join(f"{key}: {entry}" for key, entry in value.items())
    return _cut("" if value is None else " ".join(str(value).split()), CELL)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _rows(count: int) -> str:
    return f"{count:,} row{'' if count == 1 else 's'}"


def _share(part: int, whole: int) -> str:
    share = 100 * part / whole
    return f"{share:.0f} %" if share in (0, 100) or 1 <= share <= 99 else f"{share:.2g} %"
