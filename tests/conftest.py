"""Fixtures that every test may use: one Spark session, an empty lake, a default configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from akt_spark.catalog import catalog_statements
from akt_spark.conf_file import load
from akt_spark.config import Config, SparkConfig
from akt_spark.lake import SCHEMAS, Lake, declared_tables
from akt_spark.session import spark_session
from akt_spark.stage import Context


@pytest.hookimpl(tryfirst=True)  # pytest-xdist reads the groups in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of one file share its fixtures; those of the shop's night, of evaluation, of serving a lake each.

    The night takes longest and comes first, so that no worker waits for it at the end.
    """

    def looks_at_the_night(item: pytest.Item) -> bool:
        return "jobs" in item.path.parts and "night" in getattr(item, "fixturenames", ())

    def group(item: pytest.Item) -> str:
        if looks_at_the_night(item):
            return "the shop's night"
        path = item.path.relative_to(item.config.rootpath)
        return str(path.parent if path.parent.name in ("evaluation", "serving") else path)

    for item in items:
        item.add_marker(pytest.mark.xdist_group(group(item)))
    items.sort(key=looks_at_the_night, reverse=True)


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    settings = {
        "spark.ui.enabled": "false",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.memory": "2g",
        # tables of a few rows: compiling plans and code costs more than running them
        "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=256m",
        "spark.sql.codegen.wholeStage": "false",
        "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    }
    session = spark_session(SparkConfig(shuffle_partitions=2, settings=settings), "tests")
    yield session
    session.stop()


@pytest.fixture
def lake(spark: SparkSession, tmp_path: Path) -> Lake:
    return Lake(spark, str(tmp_path / "lake"))


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return load(None, [f"lake.root={tmp_path / 'lake'}"])


@pytest.fixture
def context(spark: SparkSession, lake: Lake, config: Config) -> Context:
    return Context(spark, lake, config, date(2024, 1, 31), "20240131-test")


@pytest.fixture
def named(spark: SparkSession) -> Iterator[Callable[[str], None]]:
    """Gives the tables and views under a lake root their names, in a catalogue that holds no other lake's."""

    def forget() -> None:
        for view in (SCHEMAS / "views").glob("*.sql"):
            spark.sql(f"DROP VIEW IF EXISTS {view.stem}")
        for table in declared_tables():
            spark.sql(f"DROP TABLE IF EXISTS {table}")

    def name(root: str) -> None:
        for statement in catalog_statements(root):
            spark.sql(statement)

    forget()
    yield name
    forget()
