"""Embeddings of the catalogue in Spark: raw vectors from the encoder, aligned vectors from the trained head."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

from pyspark import Accumulator
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from akt_spark.content import registry, workers
from akt_spark.content.encoders import EncoderSpec
from akt_spark.content.encoders.tuned import TunedSpec
from akt_spark.content.head import project_batches
from akt_spark.content.model_process import PackedSpec
from akt_spark.content.prompts import PROMPT_COLUMNS
from akt_spark.content.raw_encoders import hold_to_record
from akt_spark.content.resources import attempts, embedding_profile
from akt_spark.content.statistics import with_statistics
from akt_spark.content.throughput import Work, work_accumulator
from akt_spark.content.waves import in_waves
from akt_spark.errors import DataError, EncoderError, MissingInput
from akt_spark.stage import Context

TABLE = "content.item_embeddings"
SEEN = (*PROMPT_COLUMNS, "image")  # what the encoder sees; items that share a text may have a photo each


@dataclass
class Embedded:
    """What an embedding step wrote."""

    rows: int = 0
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)


def embed_catalogue(ctx: Context, spec: EncoderSpec) -> Embedded:
    """Brings the raw vectors of all catalogue items up to date: encodes new, changed and formerly failed rows.

    Work is committed in waves of ``encoder.commit_rows`` items; a killed run loses at most one wave.

    Raises:
        MissingInput: when there is no catalogue.
        ConfigError: when the revision holds vectors of an encoder that differs from the configured one.
        DataError: when more than ``encoder.max_error_share`` of the catalogue could not be encoded.
        EncoderError: when the encoder cannot be loaded on a worker, or has stalled there.
    """
    config = ctx.config.encoder
    items = ctx.lake.read("bronze.items")
    ctx.lake.register(TABLE)
    compared = _compared(items.select("item_id", "content_hash"), ctx, spec.revision)
    known = F.count_if(F.col("stale") & F.col("known"))
    counts = compared.agg(F.count("*").alias("all"), F.count_if("stale").alias("rows"), known.alias("known")).head()
    if not counts["all"]:
        raise MissingInput("bronze.items", "ingest", "is empty")
    hold_to_record(ctx.lake, spec, ctx.ds)
    report, started = Embedded(rows=counts["rows"]), time.monotonic()
    count, work = math.ceil(report.rows / config.commit_rows), work_accumulator(ctx.spark.sparkContext)
    if report.rows < counts["all"]:  # else the photos of a whole catalogue would be shuffled to choose all of it
        items_to_encode = items.join(compared.where("stale"), on=["item_id", "content_hash"], how="left_semi")
    else:
        items_to_encode = items
    rows = _shipped(ctx, items_to_encode, spec)
    as_of = F.lit(spec.trained_until if isinstance(spec, TunedSpec) else None)
    with in_waves(ctx.lake, rows, count, SEEN, spec.revision) as waves:
        for number, wave in enumerate(waves, start=1):
            print(f"embedding {report.rows:,} items with {spec.revision}, wave {number} of {count}", flush=True)
            encoded = _encode(ctx, wave, spec, math.ceil(report.rows / count), work)
            encoded = encoded.withColumns({"revision": F.lit(spec.revision), "as_of": as_of})
            with clear_failures():
                ctx.lake.merge(TABLE, encoded, inserts_only=not counts["known"])
    report.seconds = time.monotonic() - started
    report.notes = _summary(ctx, items, spec, report, work.value)
    return report


def project_catalogue(ctx: Context, encoder: registry.EncoderRecord) -> Embedded:
    """Brings the aligned vectors up to date: applies the trained head to raw vectors that are new or have changed."""
    started = time.monotonic()
    raw = ctx.lake.read(TABLE).where(F.col("revision") == encoder.base_revision)
    pending = _compared(raw, ctx, encoder.revision).where("stale")
    report = Embedded(rows=pending.count())
    if report.rows:
        schema = ctx.lake.schema(TABLE)
        folder = str(registry.model_folder(ctx.lake, encoder.revision))
        project = partial(project_batches, folder=folder, revision=encoder.revision)
        aligned = pending.where(F.col("error").isNull()).select(schema.names).mapInArrow(project, schema)
        failed = pending.where(F.col("error").isNotNull()).select(schema.names)
        columns = {"revision": F.lit(encoder.revision), "as_of": F.lit(encoder.trained_until)}
        ctx.lake.merge(TABLE, aligned.unionByName(failed).withColumns(columns))
    report.seconds = time.monotonic() - started
    report.notes = [f"aligned items: {report.rows:,} new or changed vectors of {encoder.revision}"]
    return report


def _compared(rows: DataFrame, ctx: Context, revision: str) -> DataFrame:
    """Rows (item_id, content_hash, ...) beside the vectors of this revision.

    ``stale`` says of each whether it has no vector of this content, and ``known`` whether there is a row of it, then of
    earlier content or of a failure.
    """
    written = ctx.lake.read(TABLE).where(F.col("revision") == revision)
    written = written.select("item_id", F.col("content_hash").alias("known_hash"), F.col("error").alias("known_error"))
    found = rows.join(written, on="item_id", how="left")
    same = F.col("content_hash").eqNullSafe(F.col("known_hash")) & F.col("known_error").isNull()
    found = found.withColumns({"stale": ~same, "known": F.col("known_hash").isNotNull()})
    return found.drop("known_hash", "known_error")


def _shipped(ctx: Context, rows: DataFrame, spec: EncoderSpec) -> DataFrame:
    """What the encoder is to see of catalogue rows: images and statistics only where it looks at them."""
    if isinstance(spec, TunedSpec) and spec.statistics_path is not None:
        rows = with_statistics(rows, ctx.spark.read.parquet(f"file://{spec.statistics_path}"))
    else:
        rows = rows.withColumn("statistics", F.lit(None).cast("string"))
    image = F.col("image") if spec.use_images else F.lit(None).cast("binary")
    return rows.select("item_id", "content_hash", *PROMPT_COLUMNS, "statistics", image.alias("image"))


def _encode(ctx: Context, rows: DataFrame, spec: EncoderSpec, count: int, work: Accumulator[Work]) -> DataFrame:
    """Encodes about ``count`` rows of `_shipped` on the workers."""
    config = ctx.config.encoder
    slots = ctx.spark.sparkContext.defaultParallelism
    tasks = slots * math.ceil(count / config.rows_per_task / slots)  # all slots end a wave together
    encode = partial(
        workers.embed_items,
        spec=PackedSpec.of(spec),
        config=config,
        stall_seconds=config.stall_seconds / attempts(ctx.spark),
        total=work,
    )
    profile = embedding_profile(ctx.spark, config)
    placed = rows.repartition(min(tasks, count), *SEEN)  # rows that read alike are encoded once a task
    return placed.mapInArrow(encode, workers.EMBEDDING_FIELDS, profile=profile)


@contextmanager
def clear_failures() -> Iterator[None]:
    """Gives a worker's `EncoderError` to the user without the stack trace that Spark wraps it in."""
    try:
        yield
    except Exception as error:
        found = re.search(r"errors\.EncoderError: (.+)", str(error))
        if found is None:
            raise
        raise EncoderError(found.group(1)) from error


def _summary(ctx: Context, items: DataFrame, spec: EncoderSpec, report: Embedded, work: Work) -> list[str]:
    """Counts over the whole catalogue; raises when too many rows have no vector."""
    of_revision = ctx.lake.read(TABLE).where(F.col("revision") == spec.revision)
    found = of_revision.join(items.select("item_id"), on="item_id", how="left_semi").agg(
        F.count("*").alias("items"),
        F.count_if("image_missing").alias("missing"),
        F.count_if("image_corrupt").alias("corrupt"),
        F.count_if("truncated").alias("truncated"),
        F.count("error").alias("errors"),
        F.min("error").alias("example"),
    )
    seen = found.head()
    share, allowed = seen["errors"] / seen["items"], ctx.config.encoder.max_error_share
    if share > allowed:
        raise DataError(
            f"{seen['errors']:,} of {seen['items']:,} items could not be embedded ({share:.1%}; "
            f"encoder.max_error_share is {allowed:.1%}), for example: {seen['example']}. See {TABLE}, column error"
        )
    speed = f" in {report.seconds:.1f} s" if report.rows else ""
    measured = [f"raw items: {work.summary()}"] if work.summary() else []
    images = f"images missing {seen['missing']:,}, corrupt {seen['corrupt']:,}" if spec.use_images else "no images used"
    return [
        f"raw items: {report.rows:,} of {seen['items']:,} encoded with {spec.revision}{speed}",
        f"raw items: {images}; texts cut {seen['truncated']:,}; errors {seen['errors']:,}",
        *measured,
    ]
