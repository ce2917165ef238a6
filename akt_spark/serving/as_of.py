"""What is known of users and of items as of one moment, each worked out once: pairs are made of them later."""

from __future__ import annotations

from datetime import datetime

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from akt_spark.features.point_in_time import known_before, with_history
from akt_spark.serving.served import Served


def users_as_of(served: Served, users: DataFrame, moment: datetime) -> DataFrame:
    """Users (user_id, distinct) with ``user_idx``, ``user_activity`` and ``history``, of events before a moment."""
    asked = users.select("user_id", *_at(moment))
    days = known_before(asked, served.log_of("user", users), served.index("user"), "user", served.features)
    events = served.events_of(users).where(F.col("event_time") < F.lit(moment))
    rows = with_history(asked, days, events, served.index("item"), served.features)
    return rows.select("user_id", "user_idx", "user_activity", "history")


def items_as_of(served: Served, items: DataFrame, moment: datetime) -> DataFrame:
    """Items (item_id, distinct) with ``item_idx`` and ``item_activity``, of days before that of a moment."""
    asked = items.select("item_id", *_at(moment))
    days = known_before(asked, served.log_of("item", items), served.index("item"), "item", served.features)
    return days.select("item_id", "item_idx", "item_activity")


def _at(moment: datetime) -> list[Column]:
    """The columns that say when: a request has no order among events of its time, so it sees none of them."""
    order = F.lit(None).cast("bigint").alias("event_order")
    return [F.lit(moment).alias("event_time"), order, F.lit(moment.date()).alias("ds")]
