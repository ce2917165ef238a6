"""MovieLens: a rating is an impression; one of at least ``positive_rating`` is also a click at the same time.

Read from a folder of Parquet files (``data/movielens-small``), a folder of GroupLens' own files (CSV, or the ``.dat``
of MovieLens 1M and 10M), or a zip of theirs.
"""

from __future__ import annotations

import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, time, timedelta
from functools import reduce
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from akt_spark.config_sources import MovieLensSource, TableSource
from akt_spark.errors import SourceError
from akt_spark.sources.files import AGAIN, existing
from akt_spark.sources.images import photos
from akt_spark.sources.raw import RAW, ROW_JSON, VERDICT, RawData, content_id, no_users
from akt_spark.sources.tables import read_parts
from akt_spark.sources.typed import epoch, number

COLUMNS = {
    "ratings": ("userId", "movieId", "rating", "timestamp"),
    "movies": ("movieId", "title", "genres"),
    "tags": ("userId", "movieId", "tag", "timestamp"),
    "users": ("userId", "gender", "age", "occupation", "zip_code"),
}
PROFILE = COLUMNS["users"][1:]
NO_GENRES = "(no genres listed)"


def raw_files(source: MovieLensSource) -> list[Path]:
    """The files and folders that this source reads."""
    root = existing(source.path)
    found = [root] if root.is_file() else [_table_file(root, name) for name in _tables(root)]
    return [*found, existing(source.posters)] if source.posters else found


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """The folder itself, or a temporary one with the tables of a zip.

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
                _extract(archive, Path(temporary), path)
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
    tables = {name: _table(spark, folder, name) for name in _tables(folder)}
    items, users = tables["movies"], no_users(spark)
    if "tags" in tables:
        items = items.join(_descriptions(tables["tags"], content_until), on="item_id", how="left")
    if source.posters:
        items = items.join(photos(spark, existing(source.posters)), on="item_id", how="left")
    if "users" in tables:
        profile = F.create_map(*[half for name in PROFILE for half in (F.lit(name), F.col(name))])
        users = tables["users"].select("user_id", profile.alias("profile"), ROW_JSON, VERDICT)
    return RawData(_events(tables["ratings"], source.positive_rating), _items(items), users)


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
        epoch(seconds).alias("event_time"),
        F.lit(None).cast("bigint").alias("event_order"),  # the order inside a second is not known
        "value",
        ROW_JSON,
        VERDICT,
    )


def _items(movies: DataFrame) -> DataFrame:
    year = F.regexp_extract(F.col("title"), r"\((\d{4})\)\s*$", 1)
    genres = F.split("genres", r"\|")
    description, image = (
        F.col(name) if name in movies.columns else F.lit(None).cast(kind).alias(name)
        for name, kind in (("description", "string"), ("image", "binary"))
    )
    return movies.select(
        "item_id",
        "title",
        description,
        F.when(F.col("genres") == NO_GENRES, F.array().cast("array<string>")).otherwise(genres).alias("category"),
        F.lit(None).cast("string").alias("brand"),
        F.lit(None).cast("double").alias("price"),
        F.when(year != "", F.create_map(F.lit("year"), year)).alias("attributes"),
        image,
        F.lit(None).cast("date").alias("first_seen"),
        ROW_JSON,
        VERDICT,
    )


def _descriptions(tags: DataFrame, content_until: date) -> DataFrame:
    """item_id, description: the tags given up to a day, the most frequent first."""
    end = datetime.combine(content_until + timedelta(days=1), time(), UTC)
    known = tags.where(epoch(F.col("timestamp").try_cast("bigint")) < F.lit(end))
    counted = known.groupBy("item_id", F.trim(F.lower("tag")).alias("tag")).agg(F.count("*").alias("times"))
    ranked = F.array_sort(F.collect_list(F.struct((-F.col("times")).alias("rank"), "tag")))
    return counted.groupBy("item_id").agg(
        F.array_join(F.transform(ranked, lambda entry: entry["tag"]), ", ").alias("description")
    )


def _tables(folder: Path) -> list[str]:
    """The tables of a data set: MovieLens 1M has users and no tags, 10M no users, later ones tags."""
    dat = (folder / "ratings.dat").exists()
    extra = [name for name in ("tags", "users") if (folder / f"{name}.dat").exists()] if dat else ["tags"]
    return ["ratings", "movies", *extra]


def _table(spark: SparkSession, folder: Path, name: str) -> DataFrame:
    """A table with its columns as strings, ``item_id`` and ``user_id`` beside the names of MovieLens."""
    path, columns = _table_file(folder, name), COLUMNS[name]
    parts = read_parts(spark, _as_table(path, columns), columns)
    texts = [F.col(RAW)[column].cast("string").alias(column) for column in columns]
    rows = reduce(DataFrame.union, [part.rows.select(*texts, ROW_JSON, VERDICT) for part in parts])
    ids = {"item_id": "movieId", "user_id": "userId"}
    return rows.withColumns({ours: F.col(theirs) for ours, theirs in ids.items() if theirs in columns})


def _as_table(path: Path, columns: tuple[str, ...]) -> TableSource:
    if path.suffix != ".dat":
        return TableSource(path=str(path))
    encoding = "ISO-8859-1" if (path.parent / "users.dat").exists() else "UTF-8"  # 1M; 10M
    options = {"sep": "::", "quote": ""}
    return TableSource(path=str(path), format="csv", names=list(columns), options=options, encoding=encoding)


def _table_file(folder: Path, name: str) -> Path:
    files = [folder / f"{name}{ending}" for ending in (".parquet", ".csv", ".dat")]
    found = next((file for file in files if file.exists()), None)
    if found is None:
        raise SourceError(
            f"{folder} holds neither {', '.join(file.name for file in files[:-1])} nor {files[-1].name}:"
            " source.path must be a folder with ratings, movies and tags, or a MovieLens zip"
        )
    return found


def _extract(archive: zipfile.ZipFile, folder: Path, path: Path) -> None:
    """Unpacks the tables. ``SourceError`` when there are no ratings; `_table_file` misses the others."""
    members = {Path(entry).name: entry for entry in archive.namelist()}
    wanted = [f"{name}{ending}" for name in COLUMNS for ending in (".csv", ".dat")]
    if not {"ratings.csv", "ratings.dat"} & set(members):
        raise SourceError(f"{path} holds no ratings.csv or ratings.dat: is it a MovieLens zip (ml-latest-small.zip)?")
    for name in wanted:
        if name in members:
            with archive.open(members[name]) as packed, (folder / name).open("wb") as plain:
                shutil.copyfileobj(packed, plain)
