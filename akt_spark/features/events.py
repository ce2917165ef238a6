"""The name of the click log, and the order of its events."""

from __future__ import annotations

from pyspark.sql import Column
from pyspark.sql import functions as F

EVENTS = "bronze.events"
FIRST, LAST = -(2**63), 2**63 - 1


def position(without_order: int) -> Column:
    """Sorts events of equal time by ``event_order``; one without an order goes ``FIRST`` or ``LAST``."""
    return F.coalesce("event_order", F.lit(without_order))
