"""Daily files: events of other days go where they belong; a night that looks wrong stops before it loads anything."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
from pyspark.sql import SparkSession

from akt_spark.conf_file import load
from akt_spark.errors import ConfigError, DataError
from akt_spark.lake import Lake
from akt_spark.sources import ingest
from akt_spark.stage import Context, Outcome

DAY = date(2024, 3, 10)
LOADED = ("bronze.events", "bronze.items", "bronze.users", "features.item_index", "features.user_index")


def events_of(days: list[float], prefix: str, item: str = "i1", value: float | None = 1.0) -> list[tuple]:
    """One event for each entry, that many days after the noon of ``DAY``."""
    noon = datetime(2024, 3, 10, 12)
    return [
        (f"{prefix}{n}", f"u{n % 3}", item, "impression", noon + timedelta(days=days_after), value)
        for n, days_after in enumerate(days)
    ]


@dataclass
class Shop:
    """Daily files beside a catalogue, and the nights that read them."""

    spark: SparkSession
    folder: Path
    outcomes: list[Outcome] = field(default_factory=list)

    def night(self, ds: date, rows: list[tuple], *settings: str) -> Outcome:
        columns = ["event_id", "user_id", "item_id", "event_type", "event_time", "value"]
        log = pd.DataFrame(rows, columns=columns).astype({"event_time": "datetime64[us]", "value": "float64"})
        log.to_parquet(self.folder / f"events-{ds}.parquet")
        source = (
            f"source={{kind: logs, events: {{path: '{self.folder}/events-{{ds}}.parquet'}},"
            f" items: {{path: '{self.folder}/items.parquet'}}}}"
        )
        config = load(None, [source, f"lake.root={self.lake.root}", *settings])
        return ingest.run(Context(self.spark, self.lake, config, ds, ds.isoformat()))

    @property
    def lake(self) -> Lake:
        return Lake(self.spark, str(self.folder / "lake"))


@pytest.fixture(scope="module")
def shop(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    shop = Shop(spark, tmp_path_factory.mktemp("shop"))
    items = [("i1", "Red teapot", "short"), ("i2", "Blue lamp", "x" * 100_001), ("i3", "x" * 2_001, None)]
    items += [("i\u0007", "Bell", None), ("i\ufffd", "Torn", None), *((f"ok{n}", "Plain", None) for n in range(36))]
    pd.DataFrame(items, columns=["item_id", "title", "description"]).to_parquet(shop.folder / "items.parquet")
    days = [0.0] * 14 + [-0.9, -7.4, -7.6, 1.4, 1.6, 300.0]
    shop.outcomes.append(shop.night(DAY, events_of(days, "a"), "ingest.max_rejected_share=0.2"))
    return shop


def test_events_of_other_days_go_to_their_own_day_or_into_the_quarantine(shop: Shop) -> None:
    stored = Counter(row["ds"] - DAY for row in shop.lake.read("bronze.events", version=1).select("ds").collect())
    reasons = Counter(
        row["reason"].split(":")[0] for row in shop.lake.read("bronze.quarantine").where("source = 'events'").collect()
    )
    assert stored == {timedelta(0): 14, timedelta(-1): 1, timedelta(-7): 1, timedelta(1): 1}
    assert reasons == {
        "event_time more than 7 days before the night": 1,
        "event_time more than 1 days after the night": 2,
    }
    assert "20 rows read = 17 accepted + 3 quarantined; 17 new" in shop.outcomes[0].notes[0]


def test_absurd_texts_and_ids_are_quarantined_with_their_reason(shop: Shop) -> None:
    rejected = shop.lake.read("bronze.quarantine").where("source = 'items'").collect()
    assert Counter(row["reason"].split(":")[0] for row in rejected) == {
        "description longer than 100000 characters": 1,
        "title longer than 2000 characters": 1,
        "item_id with unreadable or control characters": 2,
    }


def test_a_night_that_looks_wrong_loads_nothing_and_names_every_bound(shop: Shop) -> None:
    before = [shop.lake.version(table) for table in LOADED]
    wrong = [*events_of([1.0], "b", item="unheard"), *events_of([1.0], "c", value=None)]
    rejected = [("d", "", "i1", "impression", datetime(2024, 3, 11), None)]

    with pytest.raises(DataError) as error:
        shop.night(
            DAY + timedelta(days=1),
            wrong + rejected,
            "ingest.max_null_share={events.value: 0.3, items.description: 1.0}",
            "ingest.max_new_item_share=0.4",
        )

    message = str(error.value)
    assert error.value.exit_code == 3
    assert "33.3% of 3 events are rejected, more than max_rejected_share 10.0% (1 user_id missing" in message
    assert "50.0% of events.value are null, more than max_null_share 30.0%" in message
    assert "a day before" not in message, "2 events against a mean of 7.5 over two days is within bounds"
    assert "50.0% of the events are of unknown items, more than max_new_item_share 40.0%" in message
    assert [shop.lake.version(table) for table in LOADED] == before
    assert shop.lake.read("bronze.quarantine").where("run_id = '2024-03-11'").count() == 1 + 4


def test_a_day_with_far_fewer_or_more_events_than_before_is_stopped(shop: Shop) -> None:
    with pytest.raises(DataError, match=r"1 events are 0\.13 of the 8 a day before, not between min_volume 0\.2 and"):
        shop.night(DAY + timedelta(days=1), events_of([1.0], "e"), "ingest.max_rejected_share=0.5")


def test_a_bound_on_a_column_that_there_is_not_is_a_wrong_configuration(shop: Shop) -> None:
    with pytest.raises(ConfigError, match=r"max_null_share: events have no column colour"):
        shop.night(DAY, events_of([0.0], "a"), "ingest.max_null_share={events.colour: 0.1}")
