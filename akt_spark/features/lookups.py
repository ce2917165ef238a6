"""What the ranker looks up for every item and user, frozen at the end of the training period."""

from __future__ import annotations

from datetime import timedelta

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from akt_spark.content.registry import current_revision
from akt_spark.errors import ConfigError
from akt_spark.features.activity import activity_vector, as_of
from akt_spark.features.segments import segments
from akt_spark.semantic.versions import codebooks, published_version
from akt_spark.stage import Context

PROFILE_VALUES = 4
ITEM_ATTRIBUTES = ("category_1", "category_2", "category_3", "leaf_category", "brand", "price_band")


def lookup_rows(ctx: Context, entity: str) -> DataFrame:
    """One row for every id of ``features.<entity>_index``: the columns of ``training.<entity>s``.

    Raises:
        MissingInput: when there are no semantic IDs or embeddings yet.
        ConfigError: when ``samples.codebooks`` names a codebook that is not there.
    """
    id_column, lake = f"{entity}_id", ctx.lake
    train_end = ctx.config.split.train_end(ctx.ds)
    catalogue = _items(ctx) if entity == "item" else _users(ctx)
    log = lake.read(f"features.{entity}_activity")
    state = as_of(log, train_end).select(id_column, F.struct(*log.columns[1:]).alias("state"))
    activity = activity_vector(F.col("state"), F.lit(train_end + timedelta(days=1)), ctx.config.features)
    rows = segments(lake, entity, train_end, getattr(ctx.config.segments, entity))
    others = [_other_codes(ctx)] if entity == "item" else []
    for part in (state, catalogue, _codes(ctx, entity), _vectors(ctx, entity), *others):
        rows = rows.join(part, on=id_column, how="left")
    width = len(ITEM_ATTRIBUTES) if entity == "item" else PROFILE_VALUES
    return rows.join(lake.read(f"features.{entity}_index"), on=id_column, how="inner").select(
        "idx",
        id_column,
        "impressions",
        "clicks",
        "segment",
        "role",
        F.coalesce("category", F.lit(0)).alias("category"),
        F.coalesce("attributes", F.array_repeat(F.lit(0), width)).alias("attributes"),
        activity.alias("activity"),
        "codes",
        "codebook_version",
        *(["other_codes"] if others else []),
        "vector",
    )


def item_attributes(buckets: int) -> Column:
    """Hashed static attributes of a row of ``bronze.items``, in the order of ``ITEM_ATTRIBUTES``; 0 for missing."""
    path = F.col("category")
    values = [F.get(path, F.lit(level)) for level in range(3)] + [_leaf(path), F.col("brand"), _price_band()]
    return F.array(*(_bucket(name, value, buckets) for name, value in zip(ITEM_ATTRIBUTES, values, strict=True)))


def user_attributes(buckets: int) -> Column:
    """Hashed profile values of a row of ``bronze.users``: the first four in the order of their keys, then zeros."""
    keys = F.slice(F.array_sort(F.map_keys("profile")), 1, PROFILE_VALUES)
    hashed = F.transform(keys, lambda key: _bucket(key, F.element_at("profile", key), buckets))
    missing = F.array_repeat(F.lit(0), PROFILE_VALUES)
    return F.slice(F.concat(F.coalesce(hashed, F.array().cast("array<int>")), missing), 1, PROFILE_VALUES)


def _items(ctx: Context) -> DataFrame:
    buckets = ctx.config.features.attribute_buckets
    category = _bucket("leaf_category", _leaf(F.col("category")), buckets)
    items = ctx.lake.read("bronze.items")
    return items.select("item_id", item_attributes(buckets).alias("attributes"), category.alias("category"))


def _users(ctx: Context) -> DataFrame:
    attributes = user_attributes(ctx.config.features.attribute_buckets)
    return ctx.lake.read("bronze.users").select("user_id", attributes.alias("attributes"), F.lit(0).alias("category"))


def _codes(ctx: Context, entity: str) -> DataFrame:
    """Codes of the published codebook."""
    version = published_version(ctx.lake, entity)
    ids = ctx.lake.read(f"semantic.{entity}_ids").where(F.col("codebook_version") == version)
    return ids.select(f"{entity}_id", "codes", "codebook_version")


def _other_codes(ctx: Context) -> DataFrame:
    """item_id, other_codes MAP: codes in the codebooks of `samples.codebooks`, by their names there.

    Raises:
        ConfigError: when one of them is not there.
    """
    wanted = ctx.config.samples.codebooks
    known = codebooks(ctx.lake, "item")
    for name, version in wanted.items():
        if version not in known:
            raise ConfigError(f"samples.codebooks.{name}: no item codebook '{version}'; there are {', '.join(known)}")
    names = F.create_map(*(F.lit(text) for name, version in wanted.items() for text in (version, name)))
    name = F.element_at(names, F.col("codebook_version")) if wanted else F.lit(None).cast("string")
    ids = ctx.lake.read("semantic.item_ids").where(F.col("codebook_version").isin(*wanted.values()))
    entry = F.struct(name.alias("name"), "codes")
    return ids.groupBy("item_id").agg(F.map_from_entries(F.collect_list(entry)).alias("other_codes"))


def _vectors(ctx: Context, entity: str) -> DataFrame:
    """Vectors of the encoder in use on this day."""
    revision = current_revision(ctx.lake, entity, ctx.ds)
    embeddings = ctx.lake.read(f"content.{entity}_embeddings").where(F.col("revision") == revision)
    return embeddings.select(f"{entity}_id", "vector")


def _bucket(name: Column | str, value: Column, buckets: int) -> Column:
    """A bucket from 1 to ``buckets`` for a value of a named attribute, 0 for null; equal values differ by name."""
    name = F.lit(name) if isinstance(name, str) else name
    hashed = (F.pmod(F.xxhash64(name, value), F.lit(buckets)) + 1).cast("int")
    return F.when(value.isNull(), F.lit(0)).otherwise(hashed)


def _leaf(path: Column) -> Column:
    return F.try_element_at(path, F.lit(-1))


def _price_band() -> Column:
    """Half-octave of the price: a band spans a factor of sqrt(2), whatever the currency; free is its own band."""
    price = F.col("price")
    return F.when(price == 0, "free").when(price > 0, F.floor(2 * F.log2(price)).cast("string"))
