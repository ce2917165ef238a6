"""The click log as a closed day may see it."""

from __future__ import annotations

from datetime import date

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from akt_spark.errors import DataError
from akt_spark.lake import Lake


def events_until(lake: Lake, ds: date) -> DataFrame:
    """Events of all days up to and including ``ds``; later days, loaded by other nights, stay unseen.

    Raises:
        MissingInput: when ``bronze.events`` does not exist or is empty.
        DataError: when all its events are later than ``ds``.
    """
    log = lake.read_rows("bronze.events")
    events = log.where(F.col("ds") <= F.lit(ds))
    if events.isEmpty():
        first, last = log.agg(F.min("ds"), F.max("ds")).head()
        raise DataError(f"no event on or before --ds {ds}: bronze.events holds {first} to {last}; give a --ds in there")
    return events
