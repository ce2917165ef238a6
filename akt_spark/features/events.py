"""The click log as a closed day may see it, and its order."""

from __future__ import annotations

from datetime import date

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from akt_spark.errors import DataError
from akt_spark.lake import Lake

EVENTS = "bronze.events"
FIRST, LAST = -(2**63), 2**63 - 1


def position(without_order: int) -> Column:
    """Sorts events of equal time by ``event_order``; one without an order goes ``FIRST`` or ``LAST``."""
    return F.coalesce("event_order", F.lit(without_order))


def events_until(lake: Lake, ds: date, version: int | None = None) -> DataFrame:
    """Events of all days up to and including ``ds``; later days, loaded by other nights, stay unseen.

    Raises:
        MissingInput: when ``bronze.events`` does not exist or is empty.
        DataError: when all its events are later than ``ds``.
    """
    log = lake.read_rows(EVENTS, version)
    events = log.where(F.col("ds") <= F.lit(ds))
    if events.isEmpty():
        first, last = log.agg(F.min("ds"), F.max("ds")).head()
        raise DataError(f"no event on or before --ds {ds}: {EVENTS} holds {first} to {last}; give a --ds in there")
    return events
