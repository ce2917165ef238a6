"""Features as they were known strictly before a moment: of samples, and of whatever is asked to be scored."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from akt_spark.config import FeaturesConfig
from akt_spark.features.activity import COUNTS, ENTITIES, activity_vector, strictly_before
from akt_spark.features.histories import padded, with_histories


def with_features(
    asked: DataFrame,
    events: DataFrame,
    logs: dict[str, DataFrame],
    indices: dict[str, DataFrame],
    config: FeaturesConfig,
) -> DataFrame:
    """Adds to pairs of user and item what was known of both strictly before a moment.

    What is known of an item or user before a day is worked out for pairs of id and day, which are few, and joined to
    what is asked. Shuffles of what is asked: by item and day, and by user and day, after which histories are the only
    wide column; pairs go by id, and by id and day.

    Args:
        asked: user_id, item_id, event_time, event_order, ds (the day of the time) and any other columns.
        events: rows with the columns of ``bronze.events``, of which histories are made.
        logs: rows of ``features.<entity>_activity`` for item and user.
        indices: rows of ``features.<entity>_index`` for item and user.
        config: history length and events, and CTR prior.

    Returns:
        The columns of ``asked``; ``user_idx`` and ``item_idx``; ``history``, padded, and ``history_length``;
        ``user_activity`` and ``item_activity``.
    """
    item_days, user_days = (known_before(asked, logs[entity], indices[entity], entity, config) for entity in ENTITIES)
    asked = asked.join(item_days, on=["item_id", "ds"], how="inner")
    return with_history(asked, user_days, events, indices["item"], config)


def known_before(asked: DataFrame, log: DataFrame, index: DataFrame, entity: str, config: FeaturesConfig) -> DataFrame:
    """<entity>_id, ds, <entity>_idx, <entity>_activity: of every pair of id and day among what is asked.

    An id without an index has that of the padding, 0, and its activity all the same.
    """
    days = asked.select(f"{entity}_id", "ds").distinct()
    days = days.join(index.withColumnRenamed("idx", f"{entity}_idx"), on=f"{entity}_id", how="left")
    days = days.withColumn(f"{entity}_idx", F.coalesce(f"{entity}_idx", F.lit(0)))
    known = strictly_before(days, log.select(f"{entity}_id", "ds", *COUNTS, "first_ds"), into="state")
    vector = activity_vector(F.col("state"), F.col("ds"), config)
    return known.withColumn(f"{entity}_activity", vector).drop("state")


def with_history(
    asked: DataFrame, user_days: DataFrame, events: DataFrame, item_index: DataFrame, config: FeaturesConfig
) -> DataFrame:
    """Adds histories, padded, and what is known of the users; events of items without an index are in no history.

    Args:
        asked: user_id, event_time, event_order, ds and any other columns.
        user_days: `known_before` of the users.
        events: rows with the columns of ``bronze.events``.
        item_index: rows of ``features.item_index``.
        config: history length and events.

    Returns:
        The columns of ``asked`` and ``user_days``, ``history`` and ``history_length``.
    """
    positives = events.where(F.col("event_type").isin(config.history_events))
    positives = positives.join(item_index.withColumnRenamed("idx", "item_idx"), on="item_id", how="inner")
    rows = with_histories(asked, positives, user_days, config.sequence_length)
    lengths = {"history_length": F.size("history"), "history": padded("history", config.sequence_length)}
    return rows.withColumns(lengths)
