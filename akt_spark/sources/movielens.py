"""MovieLens: a rating is an impression; one of at least ``positive_rating`` is also a click at the same time.

Read from a folder of Parquet files (``data/movielens-small``), a folder of the official CSV files, or the official zip.
"""

from __future__ import annotations

import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from akt_spark.config import MovieLensSource
from akt_spark.errors import SourceError
from akt_spark.sources.files import AGAIN, check_csv, check_parquet, existing
from akt_spark.sources.raw import ROW_JSON, RawData, as_json, content_id, no_users, number

COLUMNS = {
    "ratings": ("userId", "movieId", "rating", "timestamp"),
    "movies": ("movieId", "title", "genres"),
    "tags": ("userId", "movieId", "tag", "timestamp"),
}
NO_GENRES = "(no genres listed)"
IMAGES = "*.{jpg,jpeg,png}"
SPARK_SECONDS = 9_000_000_000_000  # beyond, seconds do not fit Spark's microseconds


def raw_files(source: MovieLensSource) -> list[Path]:
    """The files and folders that this source reads."""
    root = existing(source.path)
    found = [root] if root.is_file() else [_table_file(root, name) for name in COLUMNS]
    return [*found, existing(source.posters)] if source.posters else found


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """The folder itself, or a temporary one with the CSV files of the official zip.

    The temporary folder lies on this machine: on a cluster, unzip to a path that all workers see.

    Raises:
        SourceError: when the file is no zip, is damaged, or lacks a table.
    """
    if path.is_dir():
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="movielens-") as temporary:
        try:
            with zipfile.ZipFile(path) as archive:
                for name in COLUMNS:
                    _extract(archive, f"{name}.csv", Path(temporary), path)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
            raise SourceError(f"{path} is not a readable zip ({error}); {AGAIN}") from None
        yield Path(temporary)


def read(spark: SparkSession, folder: Path, source: MovieLensSource, content_until: date) -> RawData:
    """Reads ratings, movies and tags of a folder.

    Args:
        spark: the session.
        folder: what `unpacked` gave.
        source: posters and the rating that counts as a click.
        content_until: last day of the tags that describe a movie. Tags are written by people who have seen it, some in
            the test period: a description with later tags would tell an encoder about the future.

    Raises:
        SourceError: a file is missing, damaged or empty, or lacks a column.
    """
    ratings, movies, tags = (_table(spark, folder, name) for name in COLUMNS)
    items = movies.join(_descriptions(tags, content_until), on="item_id", how="left")
    if source.posters:
        items = items.join(_posters(spark, existing(source.posters)), on="item_id", how="left")
    else:
        items = items.withColumn("image", F.lit(None).cast("binary"))
    return RawData(_events(ratings, source.positive_rating), _items(items), no_users(spark))


def _events(ratings: DataFrame, positive_rating: float) -> DataFrame:
    liked = F.col("value") >= positive_rating
    types = F.when(liked & ~F.isnan("value"), F.array(F.lit("impression"), F.lit("click")))
    events = ratings.withColumn("value", number(F.col("rating"))).withColumn(
        "event_type", F.explode(F.coalesce(types, F.array(F.lit("impression"))))
    )
    seconds = F.col("timestamp").try_cast("bigint")
    identity = content_id(
        F.lit("movielens"), *[F.col(c) for c in ("event_type", "user_id", "item_id", "value")], seconds
    )
    return events.select(
        identity.alias("event_id"),
        "user_id",
        "item_id",
        "event_type",
        _time(seconds).alias("event_time"),
        F.lit(None).cast("bigint").alias("event_order"),  # the order inside a second is not known
        "value",
        ROW_JSON,
    )


def _items(movies: DataFrame) -> DataFrame:
    year = F.regexp_extract(F.col("title"), r"\((\d{4})\)\s*$", 1)
    genres = F.split("genres", r"\|")
    return movies.select(
        "item_id",
        "title",
        "description",
        F.when(F.col("genres") == NO_GENRES, F.array().cast("array<string>")).otherwise(genres).alias("category"),
        F.lit(None).cast("string").alias("brand"),
        F.lit(None).cast("double").alias("price"),
        F.when(year != "", F.create_map(F.lit("year"), year)).alias("attributes"),
        "image",
        F.lit(None).cast("date").alias("first_seen"),
        ROW_JSON,
    )


def _descriptions(tags: DataFrame, content_until: date) -> DataFrame:
    """item_id, description: the tags given up to a day, the most frequent first."""
    end = datetime.combine(content_until + timedelta(days=1), time(), UTC)
    known = tags.where(_time(F.col("timestamp").try_cast("bigint")) < F.lit(end))
    counted = known.groupBy("item_id", F.trim(F.lower("tag")).alias("tag")).agg(F.count("*").alias("times"))
    ranked = F.array_sort(F.collect_list(F.struct((-F.col("times")).alias("rank"), "tag")))
    return counted.groupBy("item_id").agg(
        F.array_join(F.transform(ranked, lambda entry: entry["tag"]), ", ").alias("description")
    )


def _posters(spark: SparkSession, path: Path) -> DataFrame:
    """item_id, image: from a folder of <movieId>.jpg or .png, or from a Parquet file with these two columns."""
    if path.is_file():
        check_parquet(path, ("item_id", "image"))
        posters = spark.read.parquet(str(path)).select(F.col("item_id").cast("string"), "image")
        return posters.groupBy("item_id").agg(F.min("image").alias("image"))
    files = spark.read.format("binaryFile").option("pathGlobFilter", IMAGES).load(str(path))
    item_id = F.regexp_extract("path", r"([^/]+)\.[^./]+$", 1).alias("item_id")
    return files.groupBy(item_id).agg(F.min_by("content", "path").alias("image"))


def _time(seconds: Column) -> Column:
    return F.when(F.abs(seconds) < SPARK_SECONDS, F.timestamp_seconds(seconds))


def _table(spark: SparkSession, folder: Path, name: str) -> DataFrame:
    """A table with its columns as strings, ``item_id`` and ``user_id`` beside the names of MovieLens."""
    path, columns = _table_file(folder, name), COLUMNS[name]
    if path.suffix == ".parquet":
        check_parquet(path, columns)
        rows = spark.read.parquet(str(path)).select(*columns)
    else:
        check_csv(path, columns)
        names = path.open(encoding="utf-8").readline().strip().split(",")
        schema = ", ".join(f"`{column}` STRING" for column in names)
        rows = spark.read.csv(str(path), schema=schema, header=True, quote='"', escape='"').select(*columns)
    rows = rows.withColumn(ROW_JSON, as_json(rows)).withColumn("item_id", F.col("movieId").cast("string"))
    return rows.withColumn("user_id", F.col("userId").cast("string")) if "userId" in columns else rows


def _table_file(folder: Path, name: str) -> Path:
    parquet, text = folder / f"{name}.parquet", folder / f"{name}.csv"
    if not parquet.exists() and not text.exists():
        raise SourceError(
            f"{folder} holds neither {parquet.name} nor {text.name}:"
            " source.path must be a folder with ratings, movies and tags, or the official MovieLens zip"
        )
    return parquet if parquet.exists() else text


def _extract(archive: zipfile.ZipFile, name: str, folder: Path, path: Path) -> None:
    member = next((entry for entry in archive.namelist() if Path(entry).name == name), None)
    if member is None:
        raise SourceError(f"{path} holds no {name}: is it the official MovieLens zip (ml-latest-small.zip)?")
    with archive.open(member) as packed, (folder / name).open("wb") as plain:
        while block := packed.read(1 << 20):
            plain.write(block)
