"""Tables that follow the event log: a night brings them what is new in it, and rebuilds them only where it must.

The commit that changes such a table says which version of ``bronze.events`` it holds, and up to which day. The next
night reads what came since: late events of known days from the change feed, and new days whole. So its cost is that of
the new events, nights may come in any order, and a night that was killed or done twice finds its place. The table never
goes back: a night for an older day adds that day's events to what the table knows of later ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from akt_spark.config import fingerprint
from akt_spark.errors import AktError
from akt_spark.features.events import EVENTS
from akt_spark.features.log import cut_by, events_until
from akt_spark.lake import BuiltOn, Lake
from akt_spark.revision import source_revision
from akt_spark.stage import Context

FEED_LOST = (
    "FILE_NOT_EXIST",
    "FileNotFound",
    "DELTA_FILE_NOT_FOUND",
    "DELTA_VERSION_NOT_CONTIGUOUS",
    "VersionNotFound",
)


@dataclass(frozen=True)
class Held:
    """The events that a table holds: those of a version of ``bronze.events`` with ``ds <= until``."""

    version: int
    until: date


def follow(
    ctx: Context,
    table: str,
    parameters: object,
    rebuild: Callable[[DataFrame, BuiltOn], None],
    extend: Callable[[DataFrame, BuiltOn, date], None],
) -> str:
    """Brings a table up to ``ctx.ds`` and to the version of ``bronze.events`` that the stage sees.

    Args:
        ctx: the stage.
        table: the table that follows.
        parameters: what decides its rows beside the events and the code of this package.
        rebuild: writes the table from all events.
        extend: writes what new events change; they are none that the table holds, and late where they are not after
            the day given.

    Returns:
        A line for the summary: rebuilt and why, or from where it followed.

    Raises:
        AktError: when other writers keep committing to the table.
    """
    done = ""

    def work() -> None:
        nonlocal done
        done = _once(ctx, table, fingerprint(parameters, cut_by(ctx), _code()), rebuild, extend)

    ctx.lake.register(table)
    ctx.lake.retried(table, work)
    return done


def new_events(lake: Lake, held: Held, wanted: Held) -> DataFrame:
    """The events of ``wanted`` that ``held`` lacks: late ones of known days, and all of later days.

    Raises:
        AktError: when events were changed or removed, so that the difference is more than new events.
    """
    later = lake.read(EVENTS, wanted.version).where(
        (F.col("ds") > F.lit(held.until)) & (F.col("ds") <= F.lit(wanted.until))
    )
    if held.version == wanted.version:
        return later
    late = lake.inserted(EVENTS, held.version + 1, wanted.version).where(F.col("ds") <= F.lit(held.until))
    return late.unionByName(later)


def _once(
    ctx: Context,
    table: str,
    identity: str,
    rebuild: Callable[[DataFrame, BuiltOn], None],
    extend: Callable[[DataFrame, BuiltOn, date], None],
) -> str:
    lake, version = ctx.lake, ctx.lake.version(table)
    lake.read(EVENTS)  # or MissingInput
    note = lake.note(table) or {}
    log = lake.table_id(EVENTS)
    known = note.get("identity") == identity and note.get("log") == log
    held = Held(int(note["version"]), date.fromisoformat(note["until"])) if known else None
    seen = Held(lake.version(EVENTS), ctx.ds)
    wanted = Held(max(seen.version, held.version), max(seen.until, held.until)) if held else seen
    if wanted == held:
        return f"{table}: nothing new"
    on = BuiltOn(version, {"identity": identity, "log": log, "version": wanted.version, "until": str(wanted.until)})
    why = "first time" if version == 0 else "its parameters, its code or the log are others"
    if held is not None:
        try:
            extend(new_events(lake, held, wanted), on, held.until)
            return f"{table}: added what is new since version {held.version} of {EVENTS} (day {held.until})"
        except Exception as error:
            why = _lost(error)
    rebuild(events_until(ctx, wanted.until, wanted.version), on)
    return f"{table}: rebuilt ({why})"


def _lost(error: Exception) -> str:
    """Why the new events cannot be told; any other error is raised again."""
    if isinstance(error, AktError) and "changed or removed" in str(error):
        return str(error)
    if any(sign in str(error) for sign in FEED_LOST):
        return f"the change feed of {EVENTS} is no longer complete"
    raise error


def _code() -> str:
    return source_revision(Path(__file__).parent)
