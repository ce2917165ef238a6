"""The click log as all stages after ingestion read it: up to a closed day, and without what an experiment has cut."""

from __future__ import annotations

from datetime import date

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from akt_spark.errors import DataError
from akt_spark.features import planted
from akt_spark.features.events import EVENTS
from akt_spark.stage import Context


def click_log(ctx: Context, version: int | None = None) -> DataFrame:
    """``bronze.events``; with planted ids, without what is cut of them (`planted.cut`).

    Raises:
        MissingInput: when ``bronze.events`` does not exist or is empty.
    """
    events, config = ctx.lake.read_rows(EVENTS, version), ctx.config
    if not config.planted.share:
        return events
    ids, until = ctx.lake.read(planted.TABLE), config.split.train_end(ctx.ds)
    return planted.cut(events, ids, until, config.segments, config.planted.seed)


def events_until(ctx: Context, ds: date, version: int | None = None) -> DataFrame:
    """Events of all days up to and including ``ds``; later days, loaded by other nights, stay unseen.

    Raises:
        MissingInput: when ``bronze.events`` does not exist or is empty.
        DataError: when all its events are later than ``ds``.
    """
    log = click_log(ctx, version)
    events = log.where(F.col("ds") <= F.lit(ds))
    if events.isEmpty():
        first, last = log.agg(F.min("ds"), F.max("ds")).head()
        raise DataError(f"no event on or before --ds {ds}: {EVENTS} holds {first} to {last}; give a --ds in there")
    return events


def known_of(ctx: Context, entity: str, events: DataFrame) -> DataFrame:
    """The events that features of an item, or of a user, may be made of: of planted ids none after training."""
    if not ctx.config.planted.share:
        return events
    return planted.frozen(events, ctx.lake.read(planted.TABLE), ctx.config.split.train_end(ctx.ds), entity)


def cut_by(ctx: Context) -> list[object]:
    """What decides which events are cut, for tables that follow the log: they are rebuilt when it changes."""
    config = ctx.config
    if not config.planted.share:
        return []
    versions = [ctx.lake.version(planted.TABLE), ctx.lake.version(EVENTS)]
    exposures = [getattr(config.segments, entity).exposures for entity in planted.OTHER]
    return [*versions, config.planted.seed, config.split.train_end(ctx.ds).isoformat(), exposures]
