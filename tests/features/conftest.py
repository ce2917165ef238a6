"""Small click logs for the tests of features."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import duckdb
import pytest
from deltalake import DeltaTable
from pyspark.sql import DataFrame, SparkSession

from akt_spark.lake import Lake

EVENT_SCHEMA = (
    "event_id string, user_id string, item_id string, event_type string, event_time timestamp, event_order bigint, "
    "value double, ds date"
)


@dataclass(frozen=True)
class Event:
    """One event of a test log, in plain Python."""

    event_id: str
    user_id: str
    item_id: str
    event_type: str
    event_time: datetime
    event_order: int | None = None

    @property
    def row(self) -> tuple:
        day = self.event_time.date()
        return (*(getattr(self, name) for name in self.__dataclass_fields__), None, day)


@pytest.fixture(scope="session")
def frame(spark: SparkSession) -> Callable[[list[Event]], DataFrame]:
    """Events as rows of ``bronze.events``."""
    return lambda events: spark.createDataFrame([event.row for event in events], EVENT_SCHEMA)


@pytest.fixture(scope="session")
def log(frame: Callable[[list[Event]], DataFrame]) -> Callable[..., DataFrame]:
    """Rows of ``bronze.events`` from (user, item, type, "2024-01-02 10:00"[, order]), with ids e0, e1, ..."""

    def build(*rows: tuple) -> DataFrame:
        return frame(
            [
                Event(f"e{n}", user, item, kind, datetime.fromisoformat(time).replace(tzinfo=UTC), *order)
                for n, (user, item, kind, time, *order) in enumerate(rows)
            ]
        )

    return build


@pytest.fixture(scope="session")
def random_events() -> Callable[..., list[Event]]:
    """A random log of January 2024 and two later days, with many equal times, with and without an order."""

    def build(seed: int, count: int, users: int = 12, items: int = 15) -> list[Event]:
        draw = random.Random(seed)
        start = datetime(2024, 1, 1, tzinfo=UTC)
        kinds = ["impression"] * 6 + ["click"] * 4 + ["cart", "purchase"]
        return [
            Event(
                event_id=f"{draw.getrandbits(64):016x}",
                user_id=f"u{int(users * draw.random() ** 2)}",
                item_id=f"i{int(items * draw.random() ** 2)}",
                event_type=draw.choice(kinds),
                event_time=start + timedelta(days=draw.randrange(33), minutes=15 * draw.randrange(2)),
                event_order=draw.choice([None, 1, 2, 3]),
            )
            for _ in range(count)
        ]

    return build


@pytest.fixture(scope="session")
def duck() -> Callable[..., list[tuple]]:
    """Runs DuckDB SQL over a Delta table as delta-rs sees it; the query names it ``events``."""

    def query(lake: Lake, table: str, sql: str, **parameters: object) -> list[tuple]:
        files = DeltaTable(lake.path(table)).file_uris()
        connection = duckdb.connect()
        connection.read_parquet(files).create_view("events")
        return connection.execute(sql, parameters).fetchall()

    return query


@pytest.fixture
def bronze(lake: Lake, frame: Callable[[list[Event]], DataFrame]) -> Callable[[list[Event]], Lake]:
    """A lake that holds the given events."""

    def write(events: list[Event]) -> Lake:
        lake.overwrite("bronze.events", frame(events))
        return lake

    return write
