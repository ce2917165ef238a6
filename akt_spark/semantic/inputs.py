"""What semantic IDs are made from: vectors that can be used, those a codebook may be fitted on, and leaf categories."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from akt_spark.content.registry import current
from akt_spark.errors import DataError
from akt_spark.lake import Lake


@dataclass(frozen=True)
class Vectors:
    """The vectors of one encoder revision.

    Attributes:
        revision: the revision.
        usable: id, content_hash, vector; every vector has the encoder's length and finite numbers.
        count: rows of ``usable``.
        excluded: rows that are not usable, by reason.
    """

    revision: str
    usable: DataFrame
    count: int
    excluded: dict[str, int]


def usable_vectors(lake: Lake, entity: str, ds: date) -> Vectors:
    """Vectors of the encoder in use on ``ds``.

    Raises:
        MissingInput: without an encoder or embeddings.
        DataError: when not one vector is usable.
    """
    encoder = current(lake, entity, ds)
    table = f"content.{entity}_embeddings"
    rows = lake.read_rows(table).where(F.col("revision") == encoder.revision)
    judged = rows.select(
        F.col(f"{entity}_id").alias("id"), "content_hash", "vector", _problem(encoder.dim).alias("problem")
    )
    counts = {row["problem"]: row["count"] for row in judged.groupBy("problem").count().collect()}
    good = counts.pop(None, 0)
    if not good:
        found = ", ".join(f"{n:,} {reason}" for reason, n in sorted(counts.items())) or "no rows"
        raise DataError(
            f"{table} has no usable vector of revision {encoder.revision} ({found}): run jobs/embed.py again"
        )
    usable = judged.where(F.col("problem").isNull()).drop("problem")
    return Vectors(encoder.revision, usable, good, counts)


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


def leaf_categories(lake: Lake) -> DataFrame:
    """id, category: the last entry of the category path of every item that has one."""
    leaf = F.try_element_at("category", F.lit(-1))
    return lake.read("bronze.items").select(F.col("item_id").alias("id"), leaf.alias("category")).dropna()


def labelled(lake: Lake, vectors: DataFrame, kind: str) -> DataFrame:
    """Adds ``label``, what a control reads: the id (random), the leaf category (category), null for other kinds."""
    if kind == "category":
        return vectors.join(leaf_categories(lake).withColumnRenamed("category", "label"), on="id", how="left")
    return vectors.withColumn("label", F.col("id") if kind == "random" else F.lit(None).cast("string"))


def _problem(dim: int) -> Column:
    vector = F.col("vector")
    finite = F.forall(vector, lambda x: x.isNotNull() & ~F.isnan(x) & (F.abs(x) != F.lit(float("inf"))))
    return (
        F.when(vector.isNull(), "without a vector")
        .when(F.size(vector) != dim, f"not of length {dim}")
        .when(~finite, "with NaN, infinity or null inside")
    )
