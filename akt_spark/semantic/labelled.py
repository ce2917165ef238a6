"""Every id with all that health measures look at: its codes, those of the two controls, its category and its role."""

from __future__ import annotations

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from akt_spark.semantic.measures import CATEGORY, OWN, RANDOM

IDS_A_BUCKET = 100_000


def labelled_ids(ids: DataFrame, roles: DataFrame, paths: DataFrame | None) -> DataFrame:
    """Joins what is known of every id. Three shuffles, by id and by hash bucket.

    Args:
        ids: id, codes.
        roles: id, role (teacher, student, none).
        paths: id, path: category paths; None where there are none (users).

    Returns:
        id, codes, random (the codes of another id, see `shuffled`), path, leaf, role; a path without entries is
        ``['']`` and its leaf null, as both are of ids that ``paths`` does not hold.
    """
    both = ids.select("id", "codes").join(shuffled(ids.select("id", F.col("codes").alias("random"))), on="id")
    known = both.join(roles.select("id", "role"), on="id", how="left")
    if paths is None:
        return known.withColumns({"path": F.lit(None).cast("array<string>"), "leaf": F.lit(None).cast("string")})
    pathless = F.coalesce(F.size("path"), F.lit(0)) < 1
    return known.join(paths.select("id", "path"), on="id", how="left").withColumns(
        {
            "leaf": F.when(~pathless, F.element_at("path", -1)),
            "path": F.when(pathless, F.array(F.lit(""))).otherwise(F.col("path")),
        }
    )


def shuffled(ids: DataFrame) -> DataFrame:
    """``ids`` (id and one more column) with that column permuted among the ids: the sizes of all clusters stay.

    The permutation stays inside hash buckets of about 100,000 ids, so that no window holds the whole catalogue. It is
    a function of the ids alone.
    """
    (value,) = (name for name in ids.columns if name != "id")
    buckets = 1 + ids.count() // IDS_A_BUCKET
    bucketed = ids.withColumn("bucket", F.pmod(F.xxhash64("id", F.lit("bucket")), F.lit(buckets)))
    by_id, by_hash = (
        Window.partitionBy("bucket").orderBy(key, "id") for key in ("id", F.xxhash64("id", F.lit("order")))
    )
    takers = bucketed.select("id", "bucket", F.row_number().over(by_id).alias("rank"))
    givers = bucketed.select("bucket", value, F.row_number().over(by_hash).alias("rank"))
    return takers.join(givers, on=["bucket", "rank"]).select("id", value)


def controls_of(labelled: DataFrame) -> DataFrame:
    """Every row of `labelled_ids` once a control: the columns of ``labelled``, control, and ``assigned``, the codes as
    names (ARRAY<STRING>). Ids without a path have no row of the category control."""
    names = F.array(
        F.struct(F.lit(OWN).alias("control"), F.col("codes").cast("array<string>").alias("assigned")),
        F.struct(F.lit(RANDOM).alias("control"), F.col("random").cast("array<string>").alias("assigned")),
        F.struct(F.lit(CATEGORY).alias("control"), F.col("path").alias("assigned")),
    )
    each = labelled.withColumn("each", F.explode(names)).select(*labelled.columns, "each.*")
    return each.where(F.col("assigned").isNotNull())
