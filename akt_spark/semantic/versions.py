"""Which codebook readers use."""

from __future__ import annotations

from pyspark.sql import Row
from pyspark.sql import functions as F

from akt_spark.errors import MissingInput
from akt_spark.lake import Lake

CODEBOOKS = "semantic.codebooks"


def published(lake: Lake, entity: str) -> Row | None:
    """The published row of ``semantic.codebooks``; None before the first one."""
    lake.register(CODEBOOKS)
    return lake.read(CODEBOOKS).where((F.col("entity") == entity) & (F.col("status") == "published")).head()


def published_version(lake: Lake, entity: str) -> str:
    """The published codebook of ``item`` or ``user``: readers of ``semantic.<entity>_ids`` filter by it.

    Raises:
        MissingInput: when none is published yet.
    """
    row = published(lake, entity)
    if row is None:
        raise MissingInput(CODEBOOKS, "build_semantic_ids", f"has no published codebook of {entity}s")
    return row["codebook_version"]
