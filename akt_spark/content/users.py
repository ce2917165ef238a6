"""Embeddings of users in Spark: each user's newest clicks, as aligned item vectors, through the interest model."""

from __future__ import annotations

import time
from functools import partial

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from akt_spark.config import InterestConfig
from akt_spark.content import items, registry
from akt_spark.content.interest import embed_batches
from akt_spark.features.pairs import positives_until
from akt_spark.stage import Context

TABLE = "content.user_embeddings"
WORKER_FIELDS = "user_id STRING, content_hash STRING, clicks INT, vector ARRAY<FLOAT>"


def embed_users(ctx: Context, encoder: registry.EncoderRecord) -> items.Embedded:
    """Brings the vectors of all users up to date as of the end of training.

    Encodes users whose history or profile has changed since their row was written. A user without both has no
    vector; a row that an earlier run (of a later day) left for such a user is emptied, with the reason in ``error``.
    """
    started, train_end = time.monotonic(), ctx.config.split.train_end(ctx.ds)
    vectors = item_vectors(ctx, encoder.base_revision)
    clicks = positives_until(ctx.lake.read("bronze.events"), train_end, ctx.config.interest.events)
    ctx.lake.register(TABLE)
    rows = ctx.lake.read(TABLE).where(F.col("revision") == encoder.revision)
    known = rows.select("user_id", F.col("content_hash").alias("known_hash"))
    users = user_inputs(ctx.lake.read_rows("bronze.users"), clicks, vectors, ctx.config.interest)
    users = users.join(known, on="user_id", how="left").persist()
    encodable = (F.size("history") > 0) | (F.size("profile") > 0)
    changed = ~F.col("content_hash").eqNullSafe(F.col("known_hash"))
    to_empty = changed & ~encodable & F.col("known_hash").isNotNull()
    counts = users.agg(
        F.count_if(changed & encodable).alias("encoded"),
        F.count_if(to_empty).alias("emptied"),
        F.count_if(~encodable).alias("nothing"),
    ).head()
    if counts["encoded"] + counts["emptied"]:
        reason = F.lit(f"neither clicks up to {train_end} nor a profile")
        emptied = users.where(to_empty).select(
            "user_id", "content_hash", F.lit(0).alias("clicks"), reason.alias("error")
        )
        encoded = _encode(ctx, users.where(changed & encodable), vectors, encoder)
        written = encoded.unionByName(emptied, allowMissingColumns=True)
        ctx.lake.merge(TABLE, written.withColumns({"revision": F.lit(encoder.revision), "as_of": F.lit(train_end)}))
    users.unpersist()
    return items.Embedded(
        rows=counts["encoded"],
        seconds=time.monotonic() - started,
        notes=[
            f"users: {counts['encoded']:,} new or changed vectors of {encoder.revision}, as of {train_end}",
            f"users: {counts['nothing']:,} have neither clicks nor a profile and get no vector",
        ],
    )


def item_vectors(ctx: Context, revision: str | None) -> DataFrame:
    """item_id, content_hash and vector of all items that have one of this revision."""
    rows = ctx.lake.read(items.TABLE).where((F.col("revision") == revision) & F.col("error").isNull())
    return rows.select("item_id", "content_hash", "vector")


def user_inputs(users: DataFrame, clicks: DataFrame, vectors: DataFrame, config: InterestConfig) -> DataFrame:
    """What the interest model reads of every user.

    Args:
        users: user_id, profile.
        clicks: clicks that may be known.
        vectors: item_id, content_hash (of the item), ...; clicks on other items are left out.
        config: length of a history, hash buckets.

    Returns:
        user_id, history ARRAY<STRING> (item ids, oldest first, at most ``config.history``), profile ARRAY<INT> (hash
        buckets from 1), content_hash (of both, and of the content of the items).
    """
    newest = Window.partitionBy("user_id").orderBy(
        F.desc("event_time"), F.desc_nulls_last("event_order"), F.desc("event_id")
    )
    histories = (
        clicks.join(vectors.select("item_id", F.col("content_hash").alias("item")), on="item_id", how="inner")
        .withColumn("place", F.row_number().over(newest))
        .where(F.col("place") <= config.history)
        .groupBy("user_id")
        .agg(F.sort_array(F.collect_list(F.struct("place", "item_id", "item")), asc=False).alias("seen"))
    )
    attributes = F.sort_array(F.map_entries(F.coalesce("profile", F.create_map().cast("map<string,string>"))))
    given = F.filter(attributes, lambda entry: entry["value"].isNotNull())
    bucket = F.transform(
        given,
        lambda entry: (F.pmod(F.xxhash64(entry["key"], entry["value"]), F.lit(config.profile_buckets)) + 1).cast("int"),
    )
    return (
        users.select("user_id", given.alias("given"), bucket.alias("profile"))
        .join(histories, on="user_id", how="left")
        .select(
            "user_id",
            F.coalesce(F.col("seen.item_id"), F.array().cast("array<string>")).alias("history"),
            "profile",
            F.sha2(F.to_json(F.struct(F.col("seen.item_id").alias("i"), "seen.item", "given")), 256).alias(
                "content_hash"
            ),
        )
    )


def _encode(ctx: Context, users: DataFrame, vectors: DataFrame, encoder: registry.EncoderRecord) -> DataFrame:
    """Joins vectors to the clicks of the given users, one array a user, and encodes them on the workers."""
    clicked = users.select("user_id", F.posexplode("history").alias("place", "item_id"))
    arrays = (
        clicked.join(vectors.select("item_id", "vector"), on="item_id", how="inner")
        .groupBy("user_id")
        .agg(F.sort_array(F.collect_list(F.struct("place", "vector"))).alias("seen"))
        .select("user_id", F.col("seen.vector").alias("vectors"))
    )
    inputs = users.join(arrays, on="user_id", how="left").select(
        "user_id",
        "content_hash",
        "profile",
        F.coalesce("vectors", F.array().cast("array<array<float>>")).alias("vectors"),
    )
    folder = str(registry.model_folder(ctx.lake, encoder.revision))
    work = partial(embed_batches, folder=folder, revision=encoder.revision, batch_size=ctx.config.interest.batch_size)
    return inputs.mapInArrow(work, WORKER_FIELDS).withColumn("error", F.lit(None).cast("string"))
