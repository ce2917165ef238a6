"""The questions of docs/analysts.md on the lake of a real night: the same answers from Spark and from DuckDB."""

from __future__ import annotations

import math
import shutil
import subprocess
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest
import readme
from jobs_night import Night, environment
from pyspark.sql import SparkSession

from akt_spark.catalog import catalog_statements

QUERIES = readme.blocks("sql", "docs/analysts.md")
MAY_BE_EMPTY = ("semantic.churn", "bronze.quarantine")  # a first night of a clean shop


@pytest.fixture(scope="module")
def duck(night: Night) -> Iterator[duckdb.DuckDBPyConnection]:
    connection = duckdb.connect()
    for statement in catalog_statements(str(night.lake), "duckdb"):
        connection.execute(statement)
    yield connection
    connection.close()


def test_every_question_has_one_query() -> None:
    text = (readme.REPOSITORY / "docs/analysts.md").read_text()
    assert len(QUERIES) == text.count("\n## ") >= 10


def test_spark_and_duckdb_give_the_same_answers(
    night: Night, spark: SparkSession, named: Callable[[str], None], duck: duckdb.DuckDBPyConnection
) -> None:
    named(str(night.lake))
    for query in QUERIES:
        rows = spark.sql(query).collect()
        assert rows or any(table in query for table in MAY_BE_EMPTY), query
        found = duck.execute(query)
        assert spark.sql(query).columns == [column[0] for column in found.description], query
        assert [tuple(map(plain, row)) for row in rows] == [tuple(map(plain, row)) for row in found.fetchall()], query


@pytest.mark.night
def test_spark_sql_understands_every_query_as_the_page_has_it_typed_in(night: Night, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    shutil.copytree(night.lake, lake)
    typed = "; ".join(" ".join(query.split()) for query in QUERIES)
    done = subprocess.run(
        ["make", "sql", f"LAKE={lake}", f"QUERY={typed}"],
        cwd=readme.REPOSITORY,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(done.stdout.splitlines()) > len(QUERIES)


def test_tables_without_rows_have_their_columns_in_duckdb(duck: duckdb.DuckDBPyConnection) -> None:
    described = duck.execute("DESCRIBE semantic.churn").fetchall()
    assert [row[0] for row in described][:3] == ["entity", "from_version", "to_version"]
    assert duck.execute("SELECT count(*) FROM semantic.churn").fetchone() == (0,)


def plain(value: object) -> object:
    """A value as both engines would give it: numbers to six digits."""
    if isinstance(value, float | Decimal):
        return None if math.isnan(value) else float(f"{float(value):.6g}")
    return value
