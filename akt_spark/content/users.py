"""Embeddings of users in Spark: each user's newest clicks, as aligned item vectors, through the user model."""

from __future__ import annotations

import math
import time
from functools import partial

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from akt_spark.content import items, registry
from akt_spark.content.encoders import EncoderSpec
from akt_spark.content.interest import embed_batches
from akt_spark.content.prompt_rows import prompt_inputs
from akt_spark.content.prompt_spec import PromptSpec, prompt_spec
from akt_spark.content.prompt_users import encode_prompts
from akt_spark.content.throughput import work_accumulator
from akt_spark.content.user_rows import item_vectors, user_inputs, with_vectors
from akt_spark.errors import DataError
from akt_spark.features.log import click_log
from akt_spark.features.pairs import positives_until
from akt_spark.stage import Context

TABLE = "content.user_embeddings"
WORKER_FIELDS = "user_id STRING, content_hash STRING, clicks INT, vector ARRAY<FLOAT>"


def embed_users(ctx: Context, encoder: registry.EncoderRecord, raw: EncoderSpec) -> items.Embedded:
    """Brings the vectors of all users up to date as of the end of training.

    Encodes users of whom what the model reads has changed since their row was written, or whose encoding failed. A user
    of whom it reads nothing has no vector: a row that an earlier run left is emptied, with the reason in ``error``; a
    prompt model, which may look back a few days only, writes such a row for everybody. Work is committed in waves of
    ``encoder.commit_rows`` users, as that of items is.

    Raises:
        MissingInput: when the encoder's folder is gone, or it was trained on another language model.
        DataError: when more than ``encoder.max_error_share`` of these users could not be encoded.
    """
    started, train_end = time.monotonic(), ctx.config.split.train_end(ctx.ds)
    spec = prompt_spec(ctx.lake, encoder, raw)
    vectors = item_vectors(ctx, encoder.base_revision)
    ctx.lake.register(TABLE)
    rows = ctx.lake.read(TABLE).where(F.col("revision") == encoder.revision)
    known = rows.select("user_id", F.col("content_hash").alias("known_hash"), F.col("error").alias("known_error"))
    users = _inputs(ctx, spec, vectors).join(known, on="user_id", how="left").persist()
    encodable = (F.size("history") > 0) | (F.col("told") != "")
    changed = ~F.col("content_hash").eqNullSafe(F.col("known_hash"))
    to_encode = encodable & (changed | F.col("known_error").isNotNull())
    to_empty = changed & ~encodable & (F.col("known_hash").isNotNull() | F.lit(spec is not None))
    counts = users.agg(
        F.count_if(to_encode).alias("encoded"),
        F.count_if(to_empty).alias("emptied"),
        F.count_if(~encodable).alias("nothing"),
    ).head()
    work, failed = work_accumulator(ctx.spark.sparkContext), 0
    if counts["encoded"] + counts["emptied"]:
        if counts["emptied"]:
            window = f"in the {spec.config.days} days " if spec and spec.config.days else ""
            reason = F.lit(f"neither clicks {window}up to {train_end} nor a profile").alias("error")
            emptied = users.where(to_empty).select("user_id", "content_hash", F.lit(0).alias("clicks"), reason)
            _write(ctx, encoder, emptied.withColumn("vector", F.lit(None).cast("array<float>")))
        waves = math.ceil(counts["encoded"] / ctx.config.encoder.commit_rows)
        for wave in range(waves):
            print(f"embedding {counts['encoded']:,} users, wave {wave + 1} of {waves}", flush=True)
            chosen = users.where(to_encode & (F.pmod(F.xxhash64("user_id"), F.lit(waves)) == wave))
            if spec is None:
                encoded = _encode(ctx, chosen, vectors, encoder)
            else:
                encoded = encode_prompts(ctx, chosen, vectors, spec, math.ceil(counts["encoded"] / waves), work)
            _write(ctx, encoder, encoded)
        failed = _failed(ctx, users.where(encodable), encoder)
    users.unpersist()
    notes = [
        f"users: {counts['encoded'] - failed:,} new or changed vectors of {encoder.revision}, as of {train_end}",
        f"users: {counts['nothing']:,} have neither clicks nor a profile and get no vector",
    ]
    if work.value.summary():
        notes.append(f"users: errors {failed:,}; {work.value.summary()}")
    return items.Embedded(rows=counts["encoded"], seconds=time.monotonic() - started, notes=notes)


def _write(ctx: Context, encoder: registry.EncoderRecord, rows: DataFrame) -> None:
    """Commits a wave: user_id, content_hash, clicks, error and vector."""
    as_of = F.lit(ctx.config.split.train_end(ctx.ds))
    with items.clear_failures():
        ctx.lake.merge(TABLE, rows.withColumns({"revision": F.lit(encoder.revision), "as_of": as_of}))


def _inputs(ctx: Context, spec: PromptSpec | None, vectors: DataFrame) -> DataFrame:
    """user_id, content_hash, history, told, and what else the model reads."""
    config = ctx.config.interest if spec is None else spec.config
    train_end, events = ctx.config.split.train_end(ctx.ds), click_log(ctx)
    clicks = positives_until(events, train_end, config.events)
    users = user_inputs(ctx.lake.read_rows("bronze.users"), clicks, vectors, config)
    return users if spec is None else prompt_inputs(users, events, config.events, train_end, config.days)


def _failed(ctx: Context, users: DataFrame, encoder: registry.EncoderRecord) -> int:
    """Of users that there is something to read of, those without a vector."""
    rows = ctx.lake.read(TABLE).where((F.col("revision") == encoder.revision) & F.col("error").isNotNull())
    found = users.select("user_id").join(rows.select("user_id", "error"), on="user_id", how="left")
    seen = found.agg(F.count("*").alias("users"), F.count("error").alias("errors"), F.min("error").alias("example"))
    counts, allowed = seen.head(), ctx.config.encoder.max_error_share
    if counts["errors"] > allowed * counts["users"]:
        raise DataError(
            f"{counts['errors']:,} of {counts['users']:,} users could not be embedded (encoder.max_error_share is "
            f"{allowed:.1%}), for example: {counts['example']}. See {TABLE}, column error"
        )
    return counts["errors"]


def _encode(ctx: Context, users: DataFrame, vectors: DataFrame, encoder: registry.EncoderRecord) -> DataFrame:
    """Encodes the given users on the workers with the transformer."""
    inputs = with_vectors(users, vectors).select("user_id", "content_hash", "profile", "vectors")
    folder = str(registry.model_folder(ctx.lake, encoder.revision))
    work = partial(embed_batches, folder=folder, revision=encoder.revision, batch_size=ctx.config.interest.batch_size)
    return inputs.mapInArrow(work, WORKER_FIELDS).withColumn("error", F.lit(None).cast("string"))
