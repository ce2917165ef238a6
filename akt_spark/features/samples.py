"""Training samples: labelled events with point-in-time features, and the look-up snapshots beside them."""

from __future__ import annotations

from pyspark import StorageLevel
from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F

from akt_spark.config import FeaturesConfig, SamplesConfig
from akt_spark.errors import DataError
from akt_spark.features.activity import ENTITIES
from akt_spark.features.blocks import block_counts, placed_in_blocks
from akt_spark.features.events import EVENTS
from akt_spark.features.labels import labelled_impressions
from akt_spark.features.log import events_until, known_of
from akt_spark.features.lookups import lookup_rows
from akt_spark.features.negatives import planted_activity, popularity_gains, uniform_gains, with_sampled_negatives
from akt_spark.features.point_in_time import with_features
from akt_spark.lake import Lake
from akt_spark.stage import Context, Outcome

SPLITS = ("train", "validation", "test")
FILES_PER_RANK = 2
IDENTITY = ("event_id", "user_id", "item_id", "event_time", "event_order", "ds")


def run(ctx: Context) -> Outcome:
    """Writes ``training.samples``, ``training.items`` and ``training.users`` for ``ctx.ds``.

    Raises:
        MissingInput: when an input table does not exist.
        DataError: when the log has none of the events that ``samples.negatives`` needs, the split leaves no training or
            no test samples, or an active id has no index.
    """
    config, lake = ctx.config, ctx.lake
    events = events_until(ctx, ctx.ds)
    rows = _rows_per_split(ctx, events)
    logs = {entity: lake.read(f"features.{entity}_activity") for entity in ENTITIES}
    indices = {entity: lake.read(f"features.{entity}_index") for entity in ENTITIES}
    _check_indexed(logs, indices)
    lookups = {entity: lookup_rows(ctx, entity) for entity in ENTITIES}  # a missing input shows before the long work
    labelled = labelled_events(
        events, _drawn_from(ctx, logs["item"]), lake.read("bronze.items"), config.samples, config.features
    )
    if config.samples.negatives != "impressions":
        labelled = labelled.persist(StorageLevel.DISK_ONLY)  # drawn once; its days and ids are asked for before it is
    known = known_of(ctx, "user", events)
    samples = sample_features(labelled, known, logs, indices, config.features).withColumn("split", _split(ctx))
    blocks = block_counts(rows, config.samples.block_rows, FILES_PER_RANK * config.training.ranks)
    try:
        lake.overwrite("training.samples", placed_in_blocks(samples, blocks, config.samples.seed))
    finally:
        labelled.unpersist()
    for entity, lookup in lookups.items():
        lake.overwrite(f"training.{entity}s", lookup)
    summary = _summary(lake)
    return Outcome(
        rows_in=sum(rows.values()),
        rows_out=sum(row["rows"] for row in summary),
        notes=[_note(row) for row in summary],
    )


def _drawn_from(ctx: Context, item_activity: DataFrame) -> DataFrame:
    """The activity by which items are drawn as negatives."""
    if not ctx.config.planted.share:
        return item_activity
    events = ctx.lake.read(EVENTS).where(F.col("ds") <= F.lit(ctx.ds))
    return planted_activity(item_activity, events, ctx.config.split.train_end(ctx.ds))


def labelled_events(
    events: DataFrame, item_activity: DataFrame, catalogue: DataFrame, config: SamplesConfig, features: FeaturesConfig
) -> DataFrame:
    """What becomes a sample, with its label: impressions, or positives and items drawn as their negatives.

    Args:
        events: rows with the columns of ``bronze.events``.
        item_activity: rows of ``features.item_activity``, by which negatives are drawn.
        catalogue: rows of ``bronze.items``.
        config: where negatives come from.
        features: the click window.

    Returns:
        The columns ``IDENTITY`` and ``label`` FLOAT. Shuffles: one for impressions; for drawn negatives see there.
    """
    if config.negatives == "impressions":
        return labelled_impressions(events, features.click_window_minutes).select(*IDENTITY, "label")
    uniform = config.negatives == "uniform"
    gains = (
        uniform_gains(item_activity, catalogue) if uniform else popularity_gains(item_activity, config.positive_events)
    )
    positives = events.where(F.col("event_type").isin(config.positive_events)).select(*IDENTITY)
    return with_sampled_negatives(positives, gains, config.negatives_per_positive, config.seed)


def sample_features(
    labelled: DataFrame,
    events: DataFrame,
    logs: dict[str, DataFrame],
    indices: dict[str, DataFrame],
    config: FeaturesConfig,
) -> DataFrame:
    """Every labelled event with its features as they were known strictly before it (`with_features`).

    Args:
        labelled: the columns of `labelled_events`.
        events: rows with the columns of ``bronze.events``, of which histories are made.
        logs: rows of ``features.<entity>_activity`` for item and user.
        indices: rows of ``features.<entity>_index``, which hold every id of the events.
        config: history length and events, and CTR prior.

    Returns:
        The columns of ``training.samples`` but ``split``.
    """
    return with_features(labelled, events, logs, indices, config).select(
        F.col("event_id").alias("sample_id"),
        F.col("ds").alias("day"),
        "label",
        "user_idx",
        "item_idx",
        "history_length",
        "history",
        "user_activity",
        "item_activity",
    )


def _check_indexed(logs: dict[str, DataFrame], indices: dict[str, DataFrame]) -> None:
    """Refuses ids without an index, whose samples would drop out without a word."""
    for entity in ENTITIES:
        id_column = f"{entity}_id"
        unknown = logs[entity].join(indices[entity], on=id_column, how="left_anti").select(id_column).head()
        if unknown is not None:
            raise DataError(
                f"features.{entity}_activity holds {entity} '{unknown[0]}', which features.{entity}_index lacks: "
                "run jobs/ingest.py for this --ds, then this job again"
            )


def _split(ctx: Context, day: str = "day") -> Column:
    """The split of a day, by global time."""
    split, day_column = ctx.config.split, F.col(day)
    in_train = day_column <= F.lit(split.train_end(ctx.ds))
    in_validation = day_column <= F.lit(split.validation_end(ctx.ds))
    return F.when(in_train, "train").when(in_validation, "validation").otherwise("test")


def _rows_per_split(ctx: Context, events: DataFrame) -> dict[str, int]:
    """Samples of every split, drawn negatives counted as if none lacked; refuses an empty training or test period."""
    config = ctx.config.samples
    from_impressions = config.negatives == "impressions"
    kinds = ["impression"] if from_impressions else config.positive_events
    found = events.where(F.col("event_type").isin(kinds)).groupBy(_split(ctx, "ds").alias("split"))
    by_split = {row["split"]: row for row in found.agg(F.count("*").alias("rows"), F.min("ds"), F.max("ds")).collect()}
    if not by_split:
        raise DataError(_no_events(ctx))
    each = 1 if from_impressions else 1 + config.negatives_per_positive
    rows = {split: each * by_split[split]["rows"] if split in by_split else 0 for split in SPLITS}
    for name in ("train", "test"):
        if not rows[name]:
            days = [day for row in by_split.values() for day in row[2:]]
            raise DataError(_no_samples(ctx, name, " and ".join(kinds), f"from {min(days)} to {max(days)}"))
    return rows


def _no_events(ctx: Context) -> str:
    config = ctx.config.samples
    if config.negatives == "impressions":
        return (
            f"bronze.events has no impressions up to --ds {ctx.ds}, and samples.negatives is 'impressions': set it to "
            "'uniform' or 'popularity' to draw negatives for the log's positives, or load what was shown"
        )
    kinds = ", ".join(config.positive_events)
    return (
        f"bronze.events has no {kinds} up to --ds {ctx.ds}, which samples.positive_events names as the positives that "
        f"'{config.negatives}' negatives are drawn for: name other events there"
    )


def _no_samples(ctx: Context, name: str, kinds: str, span: str) -> str:
    split = ctx.config.split
    return (
        f"no {name} samples for --ds {ctx.ds}: bronze.events has {kinds} events {span}; with split.validation_days "
        f"{split.validation_days} and split.test_days {split.test_days}, training ends on {split.train_end(ctx.ds)} "
        f"and the test days are those after {split.validation_end(ctx.ds)}. Change these keys, or give another --ds"
    )


def _summary(lake: Lake) -> list[Row]:
    """Measures of every split as written, in the order of time."""
    written = (
        lake.read("training.samples")
        .withColumn("file", F.input_file_name())
        .groupBy("split")
        .agg(
            F.count("*").alias("rows"),
            F.mean("label").alias("ctr"),
            F.mean((F.col("history_length") > 0).cast("int")).alias("coverage"),
            F.mean("history_length").alias("length"),
            F.count_distinct("file").alias("files"),
        )
    )
    return sorted(written.collect(), key=lambda row: SPLITS.index(row["split"]))


def _note(row: Row) -> str:
    return (
        f"{row['split']}: {row['rows']:,} samples in {row['files']} files, CTR {row['ctr']:.4f}, "
        f"{row['coverage']:.1%} with a history, mean length {row['length']:.1f}"
    )
