"""Fixtures that every test may use: one Spark session, an empty lake, a default configuration."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from akt_spark.config import Config, SparkConfig, load
from akt_spark.lake import Lake
from akt_spark.session import spark_session
from akt_spark.stage import Context


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    settings = {
        "spark.ui.enabled": "false",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.memory": "2g",
        # tables of a few rows: compiling plans and code costs more than running them
        "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=256m",
        "spark.sql.codegen.wholeStage": "false",
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
