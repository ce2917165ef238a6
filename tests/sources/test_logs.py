"""Logs in other people's names and formats: what is read, what is rejected and why, what is refused in a sentence."""

from __future__ import annotations

import gzip
import json
import os
from collections import Counter
from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path

import pandas as pd
import pytest
from pyspark.sql import Row, SparkSession
from pyspark.sql import functions as F

from akt_spark.conf_file import load
from akt_spark.config import Config
from akt_spark.errors import ConfigError, SourceError
from akt_spark.sources.fingerprint import source_fingerprint
from akt_spark.sources.preview import preview
from akt_spark.sources.raw import VERDICT
from akt_spark.sources.source import raw_data
from akt_spark.sources.validate import judge_events, judge_items

REPOSITORY = Path(__file__).resolve().parents[2]
DAY = date(2024, 1, 15)

LOG = """user;article;what;when;amount;shop
u1;a1;view;15.01.2024 10:00;;web
u1;a1;buy;15.01.2024 10:05;1.234,50 €;web
u2;a2;scroll;15.01.2024 10:06;;web

u2;a2
u2;a2;view;15.01.2024 10:06;;web;too;many
u2;"a2;view;15.01.2024 10:06;;web
user;article;what;when;amount;shop
u3;a2;hover;15.01.2024 10:06;;web
u3;a2;view;soon;;web
u3;a2;view;15.01.2024 11:06;twelve;web
"""
OTHER_ORDER = """when;what;user;article;amount
15.07.2024 00:30;view;u4;"a;1";
"""
MAPPING = """
lake: {{root: {folder}/lake}}
source:
  kind: logs
  events:
    path: {folder}/log
    columns: {{user_id: user, item_id: article, event_type: what, event_time: when, value: amount}}
    options: {{sep: ";"}}
    event_types: {{view: impression, buy: [click, purchase], scroll: }}
    time_zone: Europe/Berlin
    time_format: dd.MM.yyyy HH:mm
    decimal: ","
  items:
    path: {folder}/items.tsv
    columns: {{item_id: sku, title: name, category: cat, price: cost, image_uri: photo}}
    category_separator: ">"
    attributes: [colour]
    image_resolver: {resolver}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dirty log in two files with other headers, and a catalogue in Latin-1 that says UTF-8."""
    folder = tmp_path_factory.mktemp("logs")
    (folder / "log").mkdir()
    (folder / "log" / "a.csv").write_bytes(b"\xef\xbb\xbf" + LOG.replace("\n", "\r\n").encode())
    (folder / "log" / "b.csv").write_text(OTHER_ORDER)
    (folder / "log" / "quiet hour.csv").touch()
    items = [
        "sku\tname\tcat\tcost\tcolour\tphoto",
        "a1\tTeapot\tKitchen > Pots\t$12.50\tred\tanBlZw==",
        "a2\tCafé\tKitchen\t1\tblue\t",
        "a3\tLamp\t\t1,5\t\tbroken",
        "a4\tDesk\tHome\t1,500\t\t",
    ]
    (folder / "items.tsv").write_bytes("\n".join(items).encode("latin-1"))
    return folder


@pytest.fixture(scope="module")
def config(folder: Path) -> Config:
    file = folder / "logs.yaml"
    file.write_text(MAPPING.format(folder=folder, resolver="base64:b64decode"))
    return load(file)


@pytest.fixture(scope="module")
def events(spark: SparkSession, config: Config) -> list[Row]:
    with raw_data(spark, config, DAY) as raw:
        return judge_events(raw.events, date(2024, 12, 31)).collect()


@pytest.fixture(scope="module")
def items(spark: SparkSession, config: Config) -> tuple[dict[str, Row], list[str]]:
    with raw_data(spark, config, DAY) as raw:
        rows = judge_items(raw.items.withColumn("content_hash", F.lit("same"))).collect()
        return {row["item_id"]: row for row in rows}, raw.notes()


def test_names_types_times_and_numbers_are_translated(events: list[Row]) -> None:
    accepted = {
        (row["user_id"], row["item_id"], row["event_type"], row["event_time"], row["value"])
        for row in events
        if row[VERDICT] is None
    }
    assert accepted == {
        ("u1", "a1", "impression", datetime(2024, 1, 15, 9, 0), None),
        ("u1", "a1", "click", datetime(2024, 1, 15, 9, 5), 1234.5),
        ("u1", "a1", "purchase", datetime(2024, 1, 15, 9, 5), 1234.5),
        ("u4", "a;1", "impression", datetime(2024, 7, 14, 22, 30), None),  # another order of columns, summer time
    }


def test_every_line_that_is_not_stored_has_a_reason_and_its_text(events: list[Row]) -> None:
    rejected = [row for row in events if row[VERDICT]]
    assert Counter(row[VERDICT] for row in rejected) == {
        "line malformed": 3,
        "event_type left out: scroll": 1,
        "event_type unknown: hover": 1,
        "event_time missing or unreadable": 1,
        "value is not a finite number": 1,
    }
    lines = {json.loads(row["row_json"]).get("line") for row in rejected if row[VERDICT] == "line malformed"}
    assert lines == {line for line in LOG.splitlines() if line.startswith("u2") and "scroll" not in line}
    unknown = next(row for row in rejected if "hover" in row[VERDICT])
    assert json.loads(unknown["row_json"])["shop"] == "web"  # columns that nobody maps are kept too


def test_a_line_in_another_encoding_is_rejected_and_read_when_it_is_named(
    spark: SparkSession, config: Config, folder: Path, items: tuple[dict[str, Row], list[str]]
) -> None:
    assert items[0][None][VERDICT] == "text is not in the encoding of the file"
    assert '"line":"a2\\tCaf\ufffd' in items[0][None]["row_json"]
    named = load(folder / "logs.yaml", ["source.items.encoding=ISO-8859-1", "source.items.columns.image_uri=sku"])
    with raw_data(spark, named, DAY) as raw:
        assert "Café" in {row["title"] for row in raw.items.select("title").collect()}


def test_a_catalogue_gets_paths_prices_and_attributes(items: tuple[dict[str, Row], list[str]]) -> None:
    rows, _ = items
    assert rows["a1"]["category"] == ["Kitchen", "Pots"]
    assert rows["a1"]["attributes"] == {"colour": "red"}
    assert rows["a3"]["attributes"] == {} and rows["a3"]["category"] is None
    assert (rows["a1"]["price"], rows["a4"]["price"]) == (12.5, 1500.0)
    assert rows["a3"][VERDICT] == "price is not a finite number"  # 1,5 under decimal: "."


def test_a_photo_that_cannot_be_fetched_is_none_and_counted(items: tuple[dict[str, Row], list[str]]) -> None:
    rows, notes = items
    assert (rows["a1"]["image"], rows["a3"]["image"], rows["a4"]["image"]) == (b"jpeg", None, None)
    assert "photos that could not be fetched: 1; their items have none" in notes


def test_columns_that_nobody_maps_are_noted(items: tuple[dict[str, Row], list[str]]) -> None:
    assert "events: columns that are not used: shop" in items[1]


def test_a_preview_shows_it_all_and_needs_no_lake(spark: SparkSession, config: Config) -> None:
    text = "\n".join(preview(spark, config, DAY))
    for words in (
        "EVENTS  11 rows",
        "1234.5",
        "by type     impression 1, click 1, purchase 1",
        "other types hover 1, scroll 1 (not stored)",
        "2024-01-15 09:00:00 to 2024-01-15 09:05:00",
        "not yet due 1 row of later days",
        "event_order 100 %",
        '{"line":"u2;\\"a2;view',
        "Kitchen > Pots",
        "text is not in the encoding",
        "USERS  0 rows",
        "columns that are not used: shop",
    ):
        assert words in text
    assert not Path(config.lake.root).exists()


def _source(events: str, items: str = "path: i.csv") -> Config:
    return load(None, [f"source={{kind: logs, events: {{{events}}}, items: {{{items}}}}}"])


def _events(spark: SparkSession, tmp_path: Path, events: str) -> list[Row]:
    (tmp_path / "i.csv").write_text("item_id,title\na1,Teapot\n")
    with raw_data(spark, _source(events, f"path: {tmp_path / 'i.csv'}"), DAY) as raw:
        return raw.events.collect()


def test_json_lines_may_nest_and_count_milliseconds(spark: SparkSession, tmp_path: Path) -> None:
    lines = [
        '{"user": {"id": "u1"}, "item": 7, "type": true, "ts": 1705312800123}',
        '{"item": "a1", "ts": "never", "user": {"id": "u2"}, "type": false, "dwell": 2.5}',
        '{"user": {"id": "u2"}, "item"',
        "[1, 2]",
    ]
    (tmp_path / "log.jsonl").write_text("\n".join(lines))
    columns = "{user_id: user.id, item_id: item, event_type: type, event_time: ts, value: dwell}"
    types = "{true: click, false: impression}"
    rows = _events(
        spark,
        tmp_path,
        f"path: {tmp_path}/*.jsonl, columns: {columns}, event_types: {types}, time_format: epoch_millis",
    )

    read = [(row["user_id"], row["item_id"], row["event_type"], row["event_time"], row["value"]) for row in rows[:2]]
    assert read == [
        ("u1", "7", "click", datetime(2024, 1, 15, 10, 0, 0, 123_000), None),
        ("u2", "a1", "impression", None, 2.5),
    ]
    assert [row[VERDICT] for row in rows] == [None, None, "line malformed", "line malformed"]
    assert json.loads(rows[2]["row_json"]) == {"line": lines[2]}


def test_parquet_files_may_change_types_and_hold_nanoseconds(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    time = pd.to_datetime(["2024-01-15 10:00:00.000001"])  # pandas writes nanoseconds
    first = pd.DataFrame({"user_id": [1], "item_id": [7], "t": time})
    first.to_parquet(tmp_path / "log" / "1.parquet")
    second = pd.DataFrame({"t": time.tz_localize("UTC"), "item_id": ["0008"], "user_id": ["2"]})
    second.to_parquet(tmp_path / "log" / "2.parquet")
    rows = _events(
        spark,
        tmp_path,
        f"path: {tmp_path / 'log'}, columns: {{event_time: t}}, zero_pad: {{item_id: 4}},"
        " event_type: [impression, click], time_zone: Europe/Berlin",
    )

    assert [(row["user_id"], row["item_id"], row["event_type"], row["event_time"]) for row in rows] == [
        ("1", "0007", "impression", datetime(2024, 1, 15, 9, 0, 0, 1)),
        ("1", "0007", "click", datetime(2024, 1, 15, 9, 0, 0, 1)),
        ("2", "0008", "impression", datetime(2024, 1, 15, 10, 0, 0, 1)),
        ("2", "0008", "click", datetime(2024, 1, 15, 10, 0, 0, 1)),
    ]
    assert len({row["event_id"] for row in rows}) == 4


def test_a_delta_table_is_read_as_it_is_now(spark: SparkSession, tmp_path: Path) -> None:
    columns = "event_id STRING, user_id STRING, item_id STRING, event_type STRING, event_time STRING"
    path = str(tmp_path / "table")
    for ids in (["old"], ["e1", "e2"]):
        times = ["2024-01-15T10:00:00", "2024-01-15T10:00:00-05:00"]  # with an offset, and in the time zone of the log
        rows = [(event_id, "u1", "a1", "buy", time) for event_id, time in zip(ids, times, strict=False)]
        spark.createDataFrame(rows, columns).coalesce(1).write.format("delta").mode("overwrite").save(path)
    read = _events(
        spark, tmp_path, f"path: {path}, event_types: {{buy: [click, purchase]}}, time_zone: America/New_York"
    )
    ten = datetime(2024, 1, 15, 15, 0)
    assert {(row["event_id"], row["event_type"], row["event_time"]) for row in read} == {
        ("e1", "click", ten),
        ("e1-purchase", "purchase", ten),  # one id an event
        ("e2", "click", ten),
        ("e2-purchase", "purchase", ten),
    }


def test_a_day_has_its_own_files_and_its_own_fingerprint(spark: SparkSession, tmp_path: Path) -> None:
    items = tmp_path / "items.csv"
    items.write_text("item_id,title\na1,Teapot\n")
    for day, user in (("20240115", "u1"), ("20240116", "u2")):
        (tmp_path / day).mkdir()
        (tmp_path / day / "part.csv").write_text(f"user_id,item_id,event_time\n{user},a1,{day[:4]}-01-15 10:00\n")
    config = _source(f"path: '{tmp_path}/{{ds:%Y%m%d}}/*.csv', event_type: click", f"path: {items}")

    first, second = (source_fingerprint(config, date(2024, 1, day)) for day in (15, 16))
    assert first != second
    with raw_data(spark, config, DAY) as raw:
        assert raw.daily
        assert [row["user_id"] for row in raw.events.collect()] == ["u1"]
    with pytest.raises(SourceError, match=r"no file matches .*20240117.*for --ds 2024-01-17.*has the day been"):
        source_fingerprint(config, date(2024, 1, 17))


HEADER = "user_id,item_id,event_type,event_time\n"


def test_gzipped_files_are_read_like_others(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    for day, ending in ((15, "csv"), (16, "jsonl")):
        event = {"user_id": f"u{day}", "item_id": "a1", "event_type": "click", "event_time": f"2024-01-{day} 10:00"}
        text = HEADER + ",".join(event.values()) if ending == "csv" else json.dumps(event)
        (tmp_path / "log" / f"{day}.{ending}.gz").write_bytes(gzip.compress(text.encode()))
    (tmp_path / "items.csv.gz").write_bytes(gzip.compress("item_id,title\na1,Théière\n".encode()))

    for day, ending in ((15, "csv"), (16, "jsonl")):
        config = _source(f"path: {tmp_path}/log/*.{ending}.gz", f"path: {tmp_path}/items.csv.gz")
        with raw_data(spark, config, DAY) as raw:
            assert [row["user_id"] for row in raw.events.collect()] == [f"u{day}"]
            assert [row["title"] for row in raw.items.collect()] == ["Théière"]


def test_a_quoted_field_may_run_over_lines_where_the_options_say_so(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(HEADER + "u1,a1,click,2024-01-15 10:00\n")
    (tmp_path / "items.csv").write_text('item_id,title,description\na1,Teapot,"Holds\na litre"\na2,"Cup, blue",\n')
    config = _source(f"path: {tmp_path / 'log.csv'}", f"path: {tmp_path / 'items.csv'}, options: {{multiLine: true}}")
    with raw_data(spark, config, DAY) as raw:
        rows = {row["item_id"]: (row["title"], row["description"], row[VERDICT]) for row in raw.items.collect()}
    assert rows == {"a1": ("Teapot", "Holds\na litre", None), "a2": ("Cup, blue", None, None)}


REFUSED: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "a missing column": (
        lambda file: file.write_text("user_id,item,event_type,event_time\nu1,a1,click,2024-01-15\n"),
        "",
        r"log\.csv lacks the column item_id; it has user_id, item, event_type, event_time: .*source\.\*\.columns",
    ),
    "a mapped column that is not there": (
        lambda file: file.write_text(HEADER + "u1,a1,click,2024-01-15\n"),
        ", columns: {value: dwell}",
        r"log\.csv lacks the column dwell",
    ),
    "a header and nothing else": (lambda file: file.write_text(HEADER), "", r"log\.csv has no rows"),
    "nothing": (lambda file: file.touch(), "", r"log\.csv has no rows"),
    "a column twice": (
        lambda file: file.write_text(HEADER.strip() + ",Item_ID\nu1,a1,click,2024-01-15,x\n"),
        "",
        r"log\.csv has several columns named item_id",
    ),
    "an unknown encoding": (
        lambda file: file.write_text(HEADER + "u1,a1,click,2024-01-15\n"),
        ", encoding: klingon",
        r"encoding klingon is unknown",
    ),
    "no JSON key of that name": (
        lambda file: file.write_text('{"user": "u1", "item_id": "a1", "event_time": 1, "event_type": "click"}\n'),
        ", format: json",
        r"log\.csv lacks the column user_id; it has user, item_id",
    ),
    "a file that is not Parquet": (
        lambda file: file.write_text(HEADER),
        ", format: parquet",
        r"log\.csv is not a readable Parquet file",
    ),
    "a gzipped file cut short": (
        lambda file: file.with_suffix(".csv.gz").write_bytes(_cut_gzip()),
        ".gz",
        r"log\.csv\.gz cannot be read .*truncated or damaged",
    ),
    "no file": (lambda file: None, "", r"log\.csv does not exist; correct the path"),
}


def _cut_gzip() -> bytes:
    rows = "".join(f"u{n},a{n * 7919 % 9973},click,2024-01-15\n" for n in range(20_000))
    whole = gzip.compress((HEADER + rows).encode())
    return whole[: len(whole) // 2]


@pytest.mark.parametrize("what", REFUSED)
def test_an_unreadable_log_is_refused_in_a_sentence(spark: SparkSession, tmp_path: Path, what: str) -> None:
    write, setting, message = REFUSED[what]
    write(tmp_path / "log.csv")
    (tmp_path / "i.csv").write_text("item_id,title\na1,Teapot\n")
    config = _source(f"path: {tmp_path / 'log.csv'}{setting}", f"path: {tmp_path / 'i.csv'}")
    with pytest.raises(SourceError, match=message), raw_data(spark, config, DAY) as raw:
        raw.events.collect()


def test_a_format_that_no_ending_tells_is_asked_for(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_text(HEADER)
    with (
        pytest.raises(SourceError, match=r"cannot be told .*\.txt.*say format: csv, json, parquet or delta"),
        raw_data(spark, _source(f"path: {tmp_path / 'log.txt'}", f"path: {tmp_path / 'log.txt'}"), DAY),
    ):
        pass


def test_a_resolver_that_does_not_exist_is_a_wrong_configuration(spark: SparkSession, folder: Path) -> None:
    wrong = folder / "resolver.yaml"
    wrong.write_text(MAPPING.format(folder=folder, resolver="nowhere:fetch"))
    with pytest.raises(ConfigError, match=r"image_resolver: nowhere:fetch cannot be imported"):
        with raw_data(spark, load(wrong), DAY):
            pass


def _real_data(name: str) -> Path:
    """A data set that cannot be shipped: in the folder AKT_DATA, or beside the repository."""
    places = [Path(os.environ.get("AKT_DATA", "nowhere")), REPOSITORY.parent / "shared" / "data"]
    found = next((place / name for place in places if (place / name).is_dir()), None)
    return found or pytest.skip(f"{name} is not in the folder that AKT_DATA names ({places[0]})")


def _shipped(name: str, data: Path) -> Config:
    """A shipped configuration, its files where they are on this machine."""
    path = REPOSITORY / "conf" / f"{name}.yaml"
    source = load(path).source
    tables = {table: getattr(source, table).path for table in ("events", "items", "users")}
    assert {Path(file).parent for file in tables.values()} == {Path("../shared/data") / data.name}
    moved = [f"source.{table}.path={data / Path(file).name}" for table, file in tables.items()]
    return load(path, [*moved, f"source.items.images={data / Path(source.items.images).name}"])


def test_a_week_of_hm_is_read_by_its_mapping(spark: SparkSession) -> None:
    with raw_data(spark, _shipped("hm_week", _real_data("hm-week")), date(2020, 9, 22)) as raw:
        events = raw.events.select("item_id", F.to_date("event_time").alias("ds"), "event_type")
        known = events.join(raw.items.select("item_id"), "item_id", "left_semi")
        row = known.agg(F.count("*"), F.min("ds"), F.max("ds"), F.min("event_type"), F.max("event_type")).head()
    assert tuple(row) == (240_311, date(2020, 9, 16), date(2020, 9, 22), "purchase", "purchase")


def test_movielens_1m_is_read_by_its_mapping(spark: SparkSession) -> None:
    with raw_data(spark, _shipped("movielens_1m", _real_data("movielens-1m")), date(2003, 2, 28)) as raw:
        counts = {row["event_type"]: row["count"] for row in raw.events.groupBy("event_type").count().collect()}
        user = raw.users.where("user_id = '1'").head()
    assert counts == {"impression": 903_809, "click": 518_872}
    assert user["profile"] == {"gender": "F", "age": "1", "occupation": "10", "zip_code": "48067"}
