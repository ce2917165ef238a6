"""The planted tail: ids whose training events are cut to few, so that a tail has rows to measure and a known cause.

A natural tail has few test rows. So some ids that have enough events are chosen at random, alike in every tenth of
popularity, and keep 0, 3, 9 or 30 exposures (impressions, or positives: `segments.*.exposures`) of the training period,
each with the events that belong to it. All that they do afterwards stays in the log and is scored; but what is known of
them stands still at the end of the training period, since they would warm up otherwise. docs/experiments.md says what
that means for every table.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from functools import reduce
from itertools import product

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from akt_spark.config import PlantedConfig, SegmentConfig, SegmentsConfig
from akt_spark.errors import ConfigError, DataError
from akt_spark.features.events import EVENTS, FIRST, LAST, position
from akt_spark.stage import Context

TABLE = "bronze.planted"
KEPT = (0, 3, 9, 30)
TENTHS = 10
STEPS = 1_000_000
OTHER = {"item": "user", "user": "item"}


def plant(ctx: Context) -> list[str]:
    """Writes ``bronze.planted``, where the configuration asks for it; returns lines for the summary.

    Raises:
        ConfigError: when something of this lake was trained on another log.
        DataError: when too few ids have enough events.
    """
    config, lake = ctx.config.planted, ctx.lake
    if not config.share:
        return []
    until = ctx.config.split.train_end(ctx.ds)
    events = lake.read(EVENTS).where(F.col("ds") <= F.lit(until))
    rows = choice(events, config, ctx.config.segments).persist()
    try:
        counts = {(row["entity"], row["kept"]): row["ids"] for row in _counted(rows)}
        for entity in config.entities:
            if not counts.get((entity, KEPT[0])):
                raise DataError(
                    f"planted.share {config.share:g}: fewer than {len(KEPT)} {entity}s were drawn in every tenth of "
                    f"those with more than {max(KEPT)} exposures up to {until}; raise planted.share, or leave {entity} "
                    "out of planted.entities"
                )
        lake.register(TABLE)
        known = lake.read(TABLE)
        if not (rows.exceptAll(known).isEmpty() and known.exceptAll(rows).isEmpty()):
            if lake.exists("content.encoders"):
                raise ConfigError(
                    f"planted: {lake.root} holds encoders that were trained on another log, with other ids cut or for "
                    "another day; give this experiment a lake.root of its own"
                )
            lake.overwrite(TABLE, rows)
    finally:
        rows.unpersist()
    return [
        f"planted: {counts[entity, KEPT[0]]:,} {entity}s each keep {', '.join(map(str, KEPT))} exposures up to "
        f"{until}; {counts.get((entity, None), 0):,} could have been chosen and were not"
        for entity in config.entities
    ]


def choice(events: DataFrame, config: PlantedConfig, segments: SegmentsConfig) -> DataFrame:
    """Which ids are cut to how many exposures, and their controls: the columns of ``bronze.planted``.

    Whether an id may be cut is a hash of it and the seed. It is, when it has more exposures than the most that are
    kept. Those with ids of the other kind that may be cut do not count: such a pair is cut whole (`cut`), and the id
    must have enough left. In every tenth of popularity, each number is kept by equally many ids; what is left over
    is neither cut nor a control. Controls are all others that have enough.

    Args:
        events: of the training period.
        config: the share, whose ids, and the seed.
        segments: what counts as an exposure.
    """
    return reduce(DataFrame.unionByName, [_choice(events, entity, config, segments) for entity in config.entities])


def _choice(events: DataFrame, entity: str, config: PlantedConfig, segments: SegmentsConfig) -> DataFrame:
    exposures = events.where(_is_exposure(getattr(segments, entity)) & ~_drawn(OTHER[entity], config))
    counts = exposures.groupBy(f"{entity}_id").agg(F.count("*").alias("exposures"))
    enough = counts.where(F.col("exposures") > max(KEPT))
    places = F.array(*(F.lit(tenth / TENTHS) for tenth in range(1, TENTHS)))
    bounds = enough.agg(F.percentile("exposures", places)).head()[0] or []  # from the histogram: it is exact
    tenth = sum(((F.col("exposures") > bound).cast("int") for bound in bounds), F.lit(1))
    groups = enough.withColumns({"tenth": tenth, "drawn": _drawn(entity, config)})
    inside = Window.partitionBy("tenth", "drawn")
    by_hash = inside.orderBy(F.xxhash64(F.lit(config.seed), F.lit("kept"), f"{entity}_id"), f"{entity}_id")
    number = F.row_number().over(by_hash) - 1
    whole = F.count("*").over(inside)
    kept = F.get(F.array(*map(F.lit, KEPT)), F.pmod("number", F.lit(len(KEPT))))
    return (
        groups.withColumns({"number": number, "whole": whole - F.pmod(whole, F.lit(len(KEPT)))})
        .where(~F.col("drawn") | (F.col("number") < F.col("whole")))
        .select(
            F.lit(entity).alias("entity"),
            F.col(f"{entity}_id").alias("id"),
            "exposures",
            "tenth",
            F.when(F.col("drawn"), kept).alias("kept"),
        )
    )


def cut(events: DataFrame, planted: DataFrame, until: date, segments: SegmentsConfig, seed: int) -> DataFrame:
    """The log without what is cut: planted ids keep so many exposures up to ``until``, and all that is later.

    Which exposures stay is a hash of them and the seed, so they are spread over the training period as the others were.
    With an exposure stay the events of the same user and item from then to their next one. An exposure of a planted
    item to a planted user is cut, whatever both may keep. Shuffles: of the events of planted ids, by user and item,
    and by id.

    Args:
        events: rows with the columns of ``bronze.events``.
        planted: rows of ``bronze.planted``.
        until: the last day of the training period.
        segments: what counts as an exposure.
        seed: changes which exposures stay.
    """
    is_early = F.col("ds") <= F.lit(until)
    early = events.where(is_early)
    for entity in OTHER:
        early = early.join(_planted_ids(planted, entity), on=f"{entity}_id", how="left")
    parts = [events.where(~is_early)]
    for of_item, of_user in product((True, False), repeat=2):
        rows = early.where((F.col("item_kept").isNotNull() == of_item) & (F.col("user_kept").isNotNull() == of_user))
        if of_item != of_user:
            entity = "item" if of_item else "user"
            parts.append(_kept(rows, entity, getattr(segments, entity), seed))
        elif not of_item:
            parts.append(rows)
    return reduce(DataFrame.unionByName, [part.select(events.columns) for part in parts])


def frozen(events: DataFrame, planted: DataFrame, until: date, entity: str) -> DataFrame:
    """The events that may be known of every item, or every user: of planted ones none after ``until``."""
    ids = _planted_ids(planted, entity)
    known = events.join(ids, on=f"{entity}_id", how="left")
    return known.where((F.col("ds") <= F.lit(until)) | F.col(f"{entity}_kept").isNull()).select(events.columns)


def _kept(events: DataFrame, entity: str, segment: SegmentConfig, seed: int) -> DataFrame:
    """The exposures that ids keep, each with the later events of its user and item up to their next one."""
    shown = _is_exposure(segment)
    place = F.when(shown, position(FIRST)).otherwise(position(LAST))  # as labels.py has it
    in_order = Window.partitionBy("user_id", "item_id").orderBy("event_time", place, F.desc(shown), "event_id")
    so_far = in_order.rowsBetween(Window.unboundedPreceding, Window.currentRow)
    exposure = F.last(F.when(shown, F.col("event_id")), ignorenulls=True).over(so_far)
    by_hash = Window.partitionBy(f"{entity}_id").orderBy(F.xxhash64(F.lit(seed), "exposure"), "exposure")
    belonging = events.withColumn("exposure", exposure).where(F.col("exposure").isNotNull())
    return belonging.withColumn("number", F.dense_rank().over(by_hash)).where(
        F.col("number") <= F.col(f"{entity}_kept")
    )


def _is_exposure(segment: SegmentConfig) -> Column:
    kinds: Mapping[str, list[str]] = {"impressions": ["impression"], "positives": ["click", "cart", "purchase"]}
    return F.col("event_type").isin(kinds[segment.exposures])


def _drawn(entity: str, config: PlantedConfig) -> Column:
    """Whether an id may be cut: a hash of it and the seed, the same in any log."""
    if entity not in config.entities:
        return F.lit(False)
    step = F.pmod(F.xxhash64(F.lit(config.seed), F.lit(entity), f"{entity}_id"), F.lit(STEPS))
    return step < round(config.share * STEPS)


def _planted_ids(planted: DataFrame, entity: str) -> DataFrame:
    """<entity>_id and <entity>_kept of the ids that are cut."""
    rows = planted.where((F.col("entity") == entity) & F.col("kept").isNotNull())
    return rows.select(F.col("id").alias(f"{entity}_id"), F.col("kept").alias(f"{entity}_kept"))


def _counted(rows: DataFrame) -> list:
    return rows.groupBy("entity", "kept").agg(F.count("*").alias("ids")).collect()
