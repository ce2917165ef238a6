"""MovieLens from Parquet, from the official CSV files and from the official zip."""

from __future__ import annotations

import csv
import zipfile
from datetime import UTC, date, datetime
from pathlib import Path

import pandas as pd
import pytest
from pyspark.sql import Row, SparkSession

from akt_spark.config_sources import MovieLensSource
from akt_spark.errors import SourceError
from akt_spark.sources import movielens
from akt_spark.sources.raw import RawData

REPOSITORY = Path(__file__).resolve().parents[2]
CONTENT_UNTIL = date(2020, 1, 10)


def _second(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


RATINGS = [
    (1, 10, 4.0, _second("2020-01-05 12:00:00")),
    (1, 20, 3.5, _second("2020-01-05 12:00:01")),
    (2, 10, 5.0, _second("2020-01-20 00:00:00")),
]
MOVIES = [
    (10, 'American "President", The (1995)', "Comedy|Drama"),
    (20, "Nameless", "(no genres listed)"),
]
TAGS = [
    (1, 10, "Politics", _second("2020-01-02 00:00:00")),
    (2, 10, "president", _second("2020-01-03 00:00:00")),
    (3, 10, "politics ", _second("2020-01-10 23:59:59")),
    (4, 10, "after the cut", _second("2020-01-11 00:00:00")),
]
TABLES = {"ratings": RATINGS, "movies": MOVIES, "tags": TAGS}


@pytest.fixture
def parquet_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "parquet"
    folder.mkdir()
    for name, rows in TABLES.items():
        pd.DataFrame(rows, columns=movielens.COLUMNS[name]).to_parquet(folder / f"{name}.parquet")
    return folder


@pytest.fixture
def csv_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "csv"
    folder.mkdir()
    for name, rows in TABLES.items():
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([movielens.COLUMNS[name], *rows])
    return folder


@pytest.fixture
def archive(tmp_path: Path, csv_folder: Path) -> Path:
    path = tmp_path / "ml-latest-small.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for file in csv_folder.iterdir():
            packed.write(file, f"ml-latest-small/{file.name}")
    return path


def _read(spark: SparkSession, folder: Path, posters: Path | None = None) -> RawData:
    source = MovieLensSource(path=str(folder), posters=str(posters) if posters else None)
    return movielens.read(spark, folder, source, CONTENT_UNTIL)


def _rows(raw: RawData) -> tuple[list[Row], list[Row]]:
    events = raw.events.drop("row_json").orderBy("event_id").collect()
    return events, raw.items.drop("row_json").orderBy("item_id").collect()


def test_parquet_csv_and_zip_give_the_same_rows(
    spark: SparkSession, parquet_folder: Path, csv_folder: Path, archive: Path
) -> None:
    expected = _rows(_read(spark, parquet_folder))
    assert _rows(_read(spark, csv_folder)) == expected
    with movielens.unpacked(archive) as folder:
        assert _rows(_read(spark, folder)) == expected
    assert not folder.exists()


def test_a_rating_is_an_impression_and_from_four_stars_on_a_click(spark: SparkSession, parquet_folder: Path) -> None:
    events = _read(spark, parquet_folder).events.select(
        "user_id", "item_id", "event_type", "value", "event_id", "event_time"
    )
    rows = events.orderBy("user_id", "item_id", "event_type").collect()

    assert [tuple(row[:4]) for row in rows] == [
        ("1", "10", "click", 4.0),
        ("1", "10", "impression", 4.0),
        ("1", "20", "impression", 3.5),
        ("2", "10", "click", 5.0),
        ("2", "10", "impression", 5.0),
    ]
    assert len({row["event_id"] for row in rows}) == 5
    assert rows[0]["event_time"] == rows[1]["event_time"]


def test_a_movie_is_described_by_what_was_known_at_the_cut(spark: SparkSession, parquet_folder: Path) -> None:
    first, second = _read(spark, parquet_folder).items.orderBy("item_id").collect()

    assert first["description"] == "politics, president"  # by frequency; the tag after the cut is not there
    assert first["title"] == 'American "President", The (1995)'
    assert first["category"] == ["Comedy", "Drama"]
    assert first["attributes"] == {"year": "1995"}
    assert (second["description"], second["category"], second["attributes"]) == (None, [], None)


def test_what_cannot_be_read_is_left_for_the_quarantine(spark: SparkSession, csv_folder: Path) -> None:
    lines = [
        "userId,movieId,rating,timestamp",
        "1,10,many,1578225600",
        "1,10,4.0,yesterday",
        "1,10,4.0,99999999999999999",
    ]
    (csv_folder / "ratings.csv").write_text("\n".join(lines))

    rows = _read(spark, csv_folder).events.collect()

    assert [(str(row["value"]), row["event_type"]) for row in rows if row["event_time"]] == [("nan", "impression")]
    assert sum(row["event_time"] is None for row in rows) == 4  # an impression and a click of either other line
    assert '"rating":"many"' in rows[0]["row_json"]


def test_posters_come_from_a_folder_or_from_a_parquet_file(spark: SparkSession, parquet_folder: Path) -> None:
    folder = parquet_folder.parent / "posters"
    folder.mkdir()
    (folder / "10.jpg").write_bytes(b"jpeg")
    (folder / "10.png").write_bytes(b"png")
    (folder / "notes.txt").write_bytes(b"no poster")
    file = parquet_folder.parent / "posters.parquet"
    pd.DataFrame({"item_id": ["10"], "image": [b"jpeg"]}).to_parquet(file)

    for posters in (folder, file):
        items = _read(spark, parquet_folder, posters).items.orderBy("item_id").collect()
        assert [row["image"] for row in items] == [b"jpeg", None]


def test_movielens_1m_is_read_from_its_zip(spark: SparkSession, tmp_path: Path) -> None:
    second = _second("2000-12-31 22:12:40")
    tables = {
        "ratings": f"1::1193::5::{second}\n1::661::3::{second}\n1::661\n",
        "movies": "661::James and the \"Giant Peach (1996)::Animation|Children's\n1193::Cité, La (1995)::Drama\n",
        "users": "1::F::1::10::48067\n",
    }
    path = tmp_path / "ml-1m.zip"
    with zipfile.ZipFile(path, "w") as packed:
        for name, lines in tables.items():
            packed.writestr(f"ml-1m/{name}.dat", lines.encode("latin-1"))

    with movielens.unpacked(path) as folder:
        raw = _read(spark, folder)
        events = {(row["item_id"], row["event_type"], row["value"], row["verdict"]) for row in raw.events.collect()}
        items = {row["item_id"]: (row["title"], row["category"]) for row in raw.items.collect()}
        (user,) = raw.users.collect()

    assert events == {
        ("1193", "impression", 5.0, None),
        ("1193", "click", 5.0, None),
        ("661", "impression", 3.0, None),
        (None, "impression", None, "line malformed"),
    }
    assert items == {
        "661": ('James and the "Giant Peach (1996)', ["Animation", "Children's"]),
        "1193": ("Cité, La (1995)", ["Drama"]),
    }
    assert user["profile"] == {"gender": "F", "age": "1", "occupation": "10", "zip_code": "48067"}


def test_a_damaged_or_foreign_zip_is_refused(archive: Path, tmp_path: Path) -> None:
    truncated = tmp_path / "truncated.zip"
    truncated.write_bytes(archive.read_bytes()[:-100])
    flipped = bytearray(archive.read_bytes())
    flipped[flipped.index(b"ratings.csv") + 15] ^= 0xFF  # inside the packed ratings
    damaged = tmp_path / "damaged.zip"
    damaged.write_bytes(flipped)
    foreign = tmp_path / "foreign.zip"
    with zipfile.ZipFile(foreign, "w") as packed:
        packed.writestr("readme.txt", "hello")

    for path, message in (
        (truncated, "not a readable zip"),
        (damaged, "not a readable zip"),
        (foreign, "holds no ratings.csv"),
    ):
        with pytest.raises(SourceError, match=message) as failure, movielens.unpacked(path):
            pass
        assert path.name in str(failure.value)


def test_a_missing_table_or_column_is_named(spark: SparkSession, parquet_folder: Path, csv_folder: Path) -> None:
    (parquet_folder / "tags.parquet").unlink()
    with pytest.raises(SourceError, match=r"neither tags\.parquet, tags\.csv nor tags\.dat"):
        _read(spark, parquet_folder)
    (csv_folder / "movies.csv").write_text("movieId,name\n1,x\n")
    with pytest.raises(SourceError, match=r"movies\.csv lacks the column title, genres"):
        _read(spark, csv_folder)


def test_the_shipped_data_is_whole_and_has_its_licence() -> None:
    folder = REPOSITORY / "data" / "movielens-small"
    rows = {name: len(pd.read_parquet(folder / f"{name}.parquet")) for name in TABLES}

    assert rows == {"ratings": 100_836, "movies": 9_742, "tags": 3_683}
    assert "under these same license conditions" in (folder / "README.txt").read_text()
    assert sum(file.stat().st_size for file in folder.iterdir()) < 1_500_000
