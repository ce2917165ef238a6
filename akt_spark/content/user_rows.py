"""What user models read, as columns: clicks that have a vector, and profiles."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from akt_spark.config import InterestConfig
from akt_spark.content import items
from akt_spark.stage import Context

HASH_STEPS = 10_000


def held_out_user(config: InterestConfig) -> Column:
    """Whether ``user_id`` is one of the users that user models are judged by.

    No model trains on what these did, nor does the item encoder on their pairs: the mean of a user's clicks would find
    the next one because it was told so.
    """
    step = F.pmod(F.xxhash64("user_id", F.lit(config.seed)), F.lit(HASH_STEPS))
    return step < round(config.held_out_share * HASH_STEPS)


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
        user_id, history ARRAY<STRING> (item ids, oldest first, at most ``config.history``), days ARRAY<INT> (of these
        clicks), contents ARRAY<STRING> (of these items), profile ARRAY<INT> (hash buckets from 1), told STRING (the
        profile in words), content_hash (of history and profile, and of the content of the items).
    """
    newest = Window.partitionBy("user_id").orderBy(
        F.desc("event_time"), F.desc_nulls_last("event_order"), F.desc("event_id")
    )
    histories = (
        clicks.join(vectors.select("item_id", F.col("content_hash").alias("item")), on="item_id", how="inner")
        .withColumn("place", F.row_number().over(newest))
        .withColumn("day", F.unix_date("ds"))
        .where(F.col("place") <= config.history)
        .groupBy("user_id")
        .agg(F.sort_array(F.collect_list(F.struct("place", "item_id", "item", "day")), asc=False).alias("seen"))
    )
    attributes = F.sort_array(F.map_entries(F.coalesce("profile", F.create_map().cast("map<string,string>"))))
    given = F.filter(attributes, lambda entry: entry["value"].isNotNull())
    bucket = F.transform(
        given,
        lambda entry: (F.pmod(F.xxhash64(entry["key"], entry["value"]), F.lit(config.profile_buckets)) + 1).cast("int"),
    )
    told = F.array_join(F.transform(given, lambda entry: F.concat_ws(" ", entry["key"], entry["value"])), ", ")
    return (
        users.select("user_id", given.alias("given"), bucket.alias("profile"), told.alias("told"))
        .join(histories, on="user_id", how="left")
        .select(
            "user_id",
            F.coalesce(F.col("seen.item_id"), F.array().cast("array<string>")).alias("history"),
            F.coalesce(F.col("seen.day"), F.array().cast("array<int>")).alias("days"),
            F.coalesce(F.col("seen.item"), F.array().cast("array<string>")).alias("contents"),
            "profile",
            "told",
            F.sha2(F.to_json(F.struct(F.col("seen.item_id").alias("i"), "seen.item", "given")), 256).alias(
                "content_hash"
            ),
        )
    )


def with_vectors(users: DataFrame, items: DataFrame, *told: str) -> DataFrame:
    """Adds arrays over the items of ``history``, in its order: ``vectors``, and the columns ``told`` of the items."""
    clicked = users.select("user_id", F.posexplode("history").alias("place", "item_id"))
    arrays = (
        clicked.join(items.select("item_id", "vector", *told), on="item_id", how="inner")
        .groupBy("user_id")
        .agg(F.sort_array(F.collect_list(F.struct("place", "vector", *told))).alias("seen"))
        .select("user_id", F.col("seen.vector").alias("vectors"), *(F.col(f"seen.{name}").alias(name) for name in told))
    )
    given = users.join(arrays, on="user_id", how="left")
    return given.withColumn("vectors", F.coalesce("vectors", F.array().cast("array<array<float>>"))).withColumns(
        {name: F.coalesce(name, F.array().cast("array<string>")) for name in told}
    )
