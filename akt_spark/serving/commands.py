"""What ``jobs/score.py`` does for a request, and ``jobs/export.py``. Each gives the lines that a person reads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from akt_spark.errors import ConfigError
from akt_spark.serving.as_of import items_as_of, users_as_of
from akt_spark.serving.export import write_export
from akt_spark.serving.requests import asked, request_id
from akt_spark.serving.scores import scored
from akt_spark.serving.served import Served, served
from akt_spark.serving.top import best, written
from akt_spark.sources.accounts import Tally
from akt_spark.stage import Context

SCORES, TOP_ITEMS = "serving.scores", "serving.top_items"


def score_requests(ctx: Context, path: str, given_id: str | None = None) -> Iterator[str]:
    """Scores a table of user_id, item_id and event_time into ``serving.scores``.

    Args:
        ctx: its day and run are not used.
        path: file, folder, glob or Delta table.
        given_id: the id of the request.

    Raises:
        MissingInput: when nothing was trained.
        ConfigError: when the configured ranker does not exist.
        DataError: when the table cannot be read, or no row of it can be used.
    """
    ranker = served(ctx)
    ctx = _of_request(ctx, ranker, request_id(given_id, path, *ranker.identity))
    with asked(ctx, "requests", path) as (pairs, accounts):
        _write(ctx, SCORES, scored(ranker, pairs), ranker)
    found = _counted(ctx, SCORES)
    repeated = replace(accounts, accepted=found["rows"], duplicates=accounts.accepted - found["rows"])
    yield from _rejected("requests", repeated)
    yield f"{found['rows']:,} pairs scored by {ranker.name}; {_unknown(found)}"
    yield _where(ctx, SCORES)


def rank_candidates(
    ctx: Context,
    path: str,
    top: int,
    users_path: str | None = None,
    moment: datetime | None = None,
    given_id: str | None = None,
) -> Iterator[str]:
    """Writes the best candidates of every user into ``serving.top_items``.

    Args:
        ctx: its day and run are not used.
        path: a table of item_id, for all users, or of user_id and item_id.
        top: candidates kept of a user.
        users_path: a table of user_id; None for all users of the lake, or all with candidates of their own.
        moment: nothing at or after it is seen; None for the end of the closed day of the ranker's run.
        given_id: the id of the request.

    Raises:
        MissingInput: when nothing was trained.
        ConfigError: when the configured ranker does not exist, or ``top`` is below 1.
        DataError: when a table cannot be read, or no row of it can be used.
    """
    if top < 1:
        raise ConfigError(f"--top {top}: keep 1 item of a user or more")
    ranker = served(ctx)
    moment = moment or end_of_day(ranker)
    identity = (*ranker.identity, moment, top, users_path)
    ctx = _of_request(ctx, ranker, request_id(given_id, path, *identity))
    serving, partitions = ctx.config.serving, ctx.config.spark.shuffle_partitions
    with ExitStack() as opened:
        candidates, accounts = opened.enter_context(asked(ctx, "candidates", path))
        yield from _rejected("candidates", accounts)
        lists = candidates if "user_id" in candidates.columns else None
        if users_path is not None:
            users, accounts = opened.enter_context(asked(ctx, "users", users_path))
            yield from _rejected("users", accounts)
        else:
            users = (lists if lists is not None else ctx.lake.read("features.user_index")).select("user_id")
        items = items_as_of(ranker, candidates.select("item_id").distinct(), moment)
        files = opened.enter_context(written(ctx.lake, items, ctx.run_id))
        known = users_as_of(ranker, users.distinct(), moment)
        chosen = best(known, lists, files, ranker.models, top, serving.batch_pairs, partitions)
        _write(ctx, TOP_ITEMS, chosen.withColumn("as_of", F.lit(moment)), ranker)
    found = _counted(ctx, TOP_ITEMS)
    yield (
        f"{found['rows']:,} rows: the best {top} candidates of {found['users']:,} users as of {moment:%Y-%m-%d %H:%M} "
        f"UTC, by {ranker.name}; {_unknown(found)}"
    )
    yield _where(ctx, TOP_ITEMS)


def export(ctx: Context, out: Path, moment: datetime | None = None) -> Iterator[str]:
    """Writes a folder that scores without Spark.

    Args:
        ctx: its day and run are not used.
        out: the folder.
        moment: nothing at or after it is in the tables; None for the end of the closed day of the ranker's run.

    Raises:
        MissingInput: when nothing was trained.
        ConfigError: when the configured ranker does not exist, or there is something else at ``out``.
    """
    ranker = served(ctx)
    moment = moment or end_of_day(ranker)
    rows = write_export(ranker, out, moment)
    yield f"{out}: {ranker.name}, {rows['items']:,} items and {rows['users']:,} users as of {moment:%Y-%m-%d %H:%M} UTC"
    yield f"python {out / 'example.py'} pairs.parquet scores.parquet"


def end_of_day(ranker: Served) -> datetime:
    """The midnight after the closed day of the ranker's run: all of the day is seen."""
    return datetime.combine(ranker.ctx.ds + timedelta(days=1), time(), UTC)


def _of_request(ctx: Context, ranker: Served, request: str) -> Context:
    return replace(ctx, ds=ranker.ctx.ds, run_id=request)


def _write(ctx: Context, table: str, rows: DataFrame, ranker: Served) -> None:
    """Replaces the rows of this request, in one commit."""
    rows = rows.withColumns({"request_id": F.lit(ctx.run_id), **ranker.columns})
    ctx.lake.overwrite(table, rows, where=_is_request(ctx))


def _is_request(ctx: Context) -> str:
    return f"request_id = '{ctx.run_id}'"


def _counted(ctx: Context, table: str) -> Row:
    """Of a request as written: rows, users, and those that the ranker does not know."""
    known = {entity: F.when(F.col(f"{entity}_idx") == 0, F.col(f"{entity}_id")) for entity in ("user", "item")}
    return (
        ctx.lake.read(table)
        .where(_is_request(ctx))
        .agg(
            F.count("*").alias("rows"),
            F.count_distinct("user_id").alias("users"),
            *(F.count_distinct(strangers).alias(f"unknown_{entity}s") for entity, strangers in known.items()),
        )
        .head()
    )


def _unknown(found: Row) -> str:
    return (
        f"{found['unknown_users']:,} users and {found['unknown_items']:,} items in them are not known to the ranker "
        "and are scored as cold"
    )


def _rejected(kind: str, accounts: Tally) -> Iterator[str]:
    yield f"{kind}: {accounts}"
    for why, count in accounts.rejected.items():
        yield f"  quarantined {count:,}: {why}"


def _where(ctx: Context, table: str) -> str:
    return f"SELECT * FROM {table} WHERE {_is_request(ctx)}"
