"""Photos of items: files in a folder, a table, or whatever a function makes of a URI."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path

import pandas as pd
from pyspark.accumulators import Accumulator
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from akt_spark.errors import ConfigError
from akt_spark.sources.files import check_parquet

FILES = "*.{jpg,jpeg,png}"


def photos(spark: SparkSession, path: Path) -> DataFrame:
    """item_id, image: from a folder of <item_id>.jpg or .png, or from Parquet with these two columns.

    Raises:
        SourceError: the Parquet is damaged or empty, or lacks a column.
    """
    if path.is_file() or any(path.glob("*.parquet")):
        check_parquet(path, ("item_id", "image"))
        table = spark.read.parquet(str(path)).select(F.col("item_id").cast("string"), "image")
        return table.groupBy("item_id").agg(F.min("image").alias("image"))
    files = spark.read.format("binaryFile").option("pathGlobFilter", FILES).load(str(path))
    item_id = F.regexp_extract("path", r"([^/]+)\.[^./]+$", 1).alias("item_id")
    return files.groupBy(item_id).agg(F.min_by("content", "path").alias("image"))


def fetched(uris: Column, name: str, failures: Accumulator[int]) -> Column:
    """The bytes behind URIs, fetched by workers; null, and counted, where there are none.

    Args:
        uris: a text column.
        name: ``module:function``, of a function from a URI to bytes or None.
        failures: counts URIs without bytes; a task that runs again counts again.

    Raises:
        ConfigError: there is no such function.
    """
    resolver(name)

    @F.pandas_udf("binary")
    def fetch(batch: pd.Series) -> pd.Series:
        get = resolver(name)
        images = [_bytes(get, uri) for uri in batch]
        failures.add(sum(image is None and bool(uri) for uri, image in zip(batch, images, strict=True)))
        return pd.Series(images, dtype=object)

    return fetch(uris)


@cache
def resolver(name: str) -> Callable[[str], bytes | None]:
    """The function of this name.

    Raises:
        ConfigError: when it is not there.
    """
    module, _, function = name.partition(":")
    try:
        return getattr(import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"source.items.image_resolver: {name} cannot be imported ({error}); write module:function, on PYTHONPATH"
        ) from None


def read_file(uri: str) -> bytes | None:
    """The bytes of a file under a path that all workers see."""
    return Path(uri.removeprefix("file://")).read_bytes()


def _bytes(get: Callable[[str], bytes | None], uri: str | None) -> bytes | None:
    try:
        return get(uri) or None if uri else None
    except Exception:  # a stranger's function and a stranger's server: a photo less, not a night less
        return None
