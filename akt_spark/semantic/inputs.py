"""What semantic IDs are made from: vectors that can be used, those a codebook may be fitted on, and leaf categories."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from akt_spark.content.registry import current
from akt_spark.errors import DataError
from akt_spark.lake import Lake
from akt_spark.semantic.vector_files import by_file, located


@dataclass(frozen=True)
class Vectors:
    """The vectors of one encoder revision.

    Attributes:
        revision: the revision.
        usable: id, content_hash, vector, file, row (`vector_files.located`); every vector has the encoder's length and
            finite numbers.
        count: rows of ``usable``.
        unusable: id, content_hash, vector, problem: the other rows.
        excluded: how many of these, by problem.
    """

    revision: str
    usable: DataFrame
    count: int
    unusable: DataFrame
    excluded: dict[str, int]


def usable_vectors(lake: Lake, entity: str, ds: date) -> Vectors:
    """Vectors of the encoder in use on ``ds``.

    Raises:
        MissingInput: without an encoder or embeddings.
        DataError: when not one vector is usable.
    """
    encoder = current(lake, entity, ds)
    table = f"content.{entity}_embeddings"
    rows = located(lake.spark, lake.files(table), lake.schema(table)).where(F.col("revision") == encoder.revision)
    judged = rows.select(
        F.col(f"{entity}_id").alias("id"),
        *("content_hash", "vector", "file", "row"),
        _problem(encoder.dim).alias("problem"),
    )
    counts = {row["problem"]: row["count"] for row in judged.groupBy("problem").count().collect()}
    good = counts.pop(None, 0)
    if not good:
        found = ", ".join(f"{n:,} {reason}" for reason, n in sorted(counts.items())) or "no rows"
        raise DataError(
            f"{table} has no usable vector of revision {encoder.revision} ({found}): run jobs/embed.py again"
        )
    usable = (judged.where(F.col("problem").isNull()) if counts else judged).drop("problem")
    return Vectors(encoder.revision, usable, good, judged.where(F.col("problem").isNotNull()), counts)


def quarantined(unusable: DataFrame) -> DataFrame:
    """reason, row_json of the vectors that are of no use: what the quarantine keeps of them."""
    row = F.to_json(F.struct("id", "content_hash", "vector"))
    return unusable.select(F.concat(F.lit("vector "), "problem").alias("reason"), row.alias("row_json"))


def fitting_vectors(lake: Lake, entity: str, vectors: DataFrame, roles: DataFrame, train_end: date) -> DataFrame:
    """The vectors of ids that the training period knew, so that no later event can move a codebook.

    Items count from ``first_seen`` where the catalogue gives it; users from their first impression.

    Args:
        vectors: id, ..., vector.
        roles: id, impressions at the end of the training period.
    """
    if entity == "user":
        known = roles.where(F.col("impressions") > 0).select("id")
    else:
        in_time = F.coalesce(F.col("first_seen") <= F.lit(train_end), F.lit(True))
        known = lake.read("bronze.items").where(in_time).select(F.col("item_id").alias("id"))
    return vectors.join(known, on="id", how="left_semi")


def category_paths(lake: Lake) -> DataFrame:
    """id, path: the category path of every item, from the broadest entry to the leaf; null or empty without one."""
    return lake.read("bronze.items").select(F.col("item_id").alias("id"), F.col("category").alias("path"))


def held_out_pairs(lake: Lake) -> DataFrame | None:
    """item_id, positive_id: co-clicked pairs that the item encoder was not trained on; None before any alignment."""
    if not lake.exists("content.item_pairs"):
        return None
    return lake.read("content.item_pairs").where("held_out").select("item_id", "positive_id")


def labelled(lake: Lake, vectors: DataFrame, kind: str) -> DataFrame:
    """Adds ``label``, what a control reads: the id (random), the leaf category (category), null for other kinds."""
    if kind == "category":
        leaf = F.try_element_at("path", F.lit(-1))
        return by_file(vectors.join(category_paths(lake).select("id", leaf.alias("label")), on="id", how="left"))
    return vectors.withColumn("label", F.col("id") if kind == "random" else F.lit(None).cast("string"))


def _problem(dim: int) -> Column:
    vector = F.col("vector")
    finite = F.forall(vector, lambda x: x.isNotNull() & ~F.isnan(x) & (F.abs(x) != F.lit(float("inf"))))
    return (
        F.when(vector.isNull(), "missing")
        .when(F.size(vector) != dim, f"not of length {dim}")
        .when(~finite, "with NaN, infinity or null inside")
    )
