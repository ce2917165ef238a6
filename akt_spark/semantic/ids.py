"""Rows of ``semantic.item_ids`` and ``semantic.user_ids``: read, missing, written."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from akt_spark.lake import Lake
from akt_spark.semantic.vector_files import by_file
from akt_spark.stage import Context


def ids_of(lake: Lake, entity: str, version: str) -> DataFrame:
    """Rows of ``semantic.<entity>_ids`` of one codebook, with the id as ``id``."""
    table = f"semantic.{entity}_ids"
    lake.register(table)
    return lake.read(table).where(F.col("codebook_version") == version).withColumnRenamed(f"{entity}_id", "id")


def unassigned(vectors: DataFrame, old: DataFrame, reassign: bool) -> DataFrame:
    """The vectors of ids without an ID, and where asked of those whose content is another than that of their ID.

    Args:
        vectors: id, content_hash, file, row, ...
        old: id, content_hash.
    """
    if old.isEmpty():
        return vectors
    known = ["id", "content_hash"] if reassign else ["id"]
    return by_file(vectors.join(old.select(*known), on=known, how="left_anti"))


def write_ids(ctx: Context, entity: str, version: str, new: DataFrame, reassign: bool) -> int:
    """Adds IDs of a codebook; an ID that is there already stays, unless ``reassign``. Returns how many were written.

    Args:
        new: what `assign` gives.
    """
    table = f"semantic.{entity}_ids"
    rows = new.withColumns({"codebook_version": F.lit(version), "assigned_ds": F.lit(ctx.ds)})
    rows = rows.withColumnRenamed("id", f"{entity}_id")
    if not reassign:
        return ctx.lake.insert_new(table, rows)
    count = rows.count()
    if count:
        ctx.lake.merge(table, rows)
    return count
