"""What analysts see by name: every table of a lake, the views over them, and the README's queries on them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime

import duckdb
import pytest
import readme
from evaluation.lakes import write
from pyspark.sql import SparkSession

from akt_spark.catalog import catalog_statements
from akt_spark.errors import AktError
from akt_spark.lake import SCHEMAS, Lake, declared_tables
from akt_spark.semantic.promotion import promote, rollback

Ask = Callable[[str], list[tuple]]

EARLIER, TODAY = date(2024, 1, 30), date(2024, 1, 31)
OLD = {"a": [0, 1], "b": [0, 0], "c": [1, 0], "new": [1, 0]}  # IDs by the published codebook
NEW = {"a": [1, 0], "b": [1, 0], "c": [0, 1], "new": [1, 1]}  # and by the candidate
MEMBERS = "SELECT prefix, item_id, sid, segment, role, impressions FROM semantic.cluster_members ORDER BY 1, 2"
HEALTH = "SELECT ds, codebook_version, value, random, category FROM semantic.nightly_health ORDER BY ds"


@pytest.fixture(scope="module")
def planted(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Three items in samples that were built on the old codebook, a newer item, and a candidate beside the old one."""
    lake = Lake(spark, str(tmp_path_factory.mktemp("planted")))
    old = {"entity": "item", "codebook_version": "old", "status": "published", "promoted_at": datetime(2024, 1, 30)}
    user = old | {"entity": "user", "codebook_version": "new"}  # of the same name as the items' candidate
    candidate = {"entity": "item", "codebook_version": "new", "status": "candidate"}
    write(lake, "semantic.codebooks", [old, candidate, user])
    ids = [
        {"item_id": item, "codebook_version": version, "codes": codes, "sid": "-".join(map(str, codes))}
        for version, of_version in (("old", OLD), ("new", NEW))
        for item, codes in of_version.items()
    ]
    write(lake, "semantic.item_ids", ids)
    head = {"item_id": "a", "segment": "head", "role": "teacher", "impressions": 100, "clicks": 10}
    tail = {"item_id": "b", "segment": "tail", "role": "student", "impressions": 3, "clicks": 1}
    cold = {"item_id": "c", "segment": "cold", "role": "none"}
    write(lake, "training.items", [row | {"codes": OLD[row["item_id"]]} for row in (head, tail, cold)])
    write(lake, "bronze.items", [{"item_id": item, "title": item.upper(), "category": ["x", "y"]} for item in OLD])
    purity = {"entity": "item", "codebook_version": "old", "metric": "purity", "level": 1, "control": "none"}
    earlier, today = purity | {"run_id": "1", "ds": EARLIER}, purity | {"ds": TODAY}
    health = [
        earlier | {"value": 0.5},
        earlier | {"control": "random", "value": 0.25},
        earlier | {"control": "category", "value": 0.75},
        today | {"run_id": "2", "value": 0.0},  # measured again by the next
        today | {"run_id": "3", "value": 0.625},
        today | {"run_id": "4", "codebook_version": "new", "value": 0.875},  # waits; readers have the old one
        today | {"run_id": "4", "value": 0.75},
    ]
    write(lake, "semantic.health", health)
    day = {"active_days": 1, "first_ds": EARLIER}
    activity = [
        day | {"item_id": "a", "ds": EARLIER, "last_ds": EARLIER, "impressions": 9, "clicks": 9},
        day | {"item_id": "a", "ds": TODAY, "last_ds": TODAY, "impressions": 100, "clicks": 12},
        day | {"item_id": "b", "ds": EARLIER, "last_ds": EARLIER, "impressions": 4, "clicks": 1},
        day | {"item_id": "new", "ds": EARLIER, "last_ds": EARLIER},
    ]
    write(lake, "features.item_activity", activity)
    samples = {"stage": "build_samples", "status": "done"}
    runs = [
        samples | {"started_at": datetime(2024, 1, 30), "config": _prior(0.5, 20)},
        samples | {"started_at": datetime(2024, 1, 31), "config": _prior(0.25, 4)},
        samples | {"started_at": datetime(2024, 2, 1), "config": _prior(0.5, 20), "status": "failed"},
        samples | {"started_at": datetime(2024, 2, 2), "config": _prior(0.5, 20), "stage": "embed"},
    ]
    write(lake, "ops.runs", runs)
    return lake


def _prior(ctr: float, weight: float) -> str:
    return f'{{"features": {{"ctr_prior": {ctr}, "ctr_prior_weight": {weight}}}}}'


@pytest.fixture
def ask(spark: SparkSession, planted: Lake, named: Callable[[str], None]) -> Ask:
    """The rows of a query on the planted lake as it is now, which Spark and DuckDB agree on."""
    named(planted.root)

    def rows(query: str) -> list[tuple]:
        with duckdb.connect() as connection:
            for statement in catalog_statements(planted.root, "duckdb"):
                connection.execute(statement)
            found = connection.execute(query).fetchall()
        assert [tuple(row) for row in spark.sql(query).collect()] == found
        return found

    return rows


def test_every_view_and_every_query_of_the_readme_can_be_run(spark, lake, named):
    for table in declared_tables():
        lake.register(table)
        spark.sql(f"DROP TABLE {table}")  # the catalogue has to name it again
    named(lake.root)
    views = [path.stem for path in (SCHEMAS / "views").glob("*.sql")]
    assert views
    for view in views:
        assert spark.table(view).count() == 0, view
    queries = readme.blocks("sql")
    assert queries
    for query in queries:
        assert spark.sql(query).collect() == []


def test_activity_today_is_the_last_day_smoothed_by_the_prior_of_the_newest_samples(ask: Ask) -> None:
    columns = "item_id, impressions, clicks, smoothed_ctr, impression_decile, segment, role"
    assert ask(f"SELECT {columns} FROM features.item_segments ORDER BY item_id") == [
        ("a", 100, 12, 0.125, 3, "head", "teacher"),  # (12 + 1) / (100 + 4)
        ("b", 4, 1, 0.25, 2, "tail", "student"),  # (1 + 1) / (4 + 4)
        ("new", 0, 0, 0.25, 1, None, None),
    ]


def test_ids_clusters_and_health_are_those_of_the_published_codebook(ask: Ask, planted: Lake) -> None:
    on_old_nights = (EARLIER, "old", 0.5, 0.25, 0.75)
    of_old = [("a", "0-1"), ("b", "0-0"), ("c", "1-0"), ("new", "1-0")]
    clusters_of_old = [  # prefix, level, members, heads, tails, colds, teachers, impressions, clicks
        ("0", 1, 2, 1, 1, 0, 1, 103, 11),
        ("0-0", 2, 1, 0, 1, 0, 0, 3, 1),
        ("0-1", 2, 1, 1, 0, 0, 1, 100, 10),
        ("1", 1, 2, 0, 0, 2, 0, 0, 0),
        ("1-0", 2, 2, 0, 0, 2, 0, 0, 0),
    ]
    assert ids(ask) == of_old
    assert clusters(ask) == clusters_of_old
    assert ask(MEMBERS) == [
        ("0", "a", "0-1", "head", "teacher", 100),
        ("0", "b", "0-0", "tail", "student", 3),
        ("0-0", "b", "0-0", "tail", "student", 3),
        ("0-1", "a", "0-1", "head", "teacher", 100),
        ("1", "c", "1-0", "cold", "none", 0),
        ("1", "new", "1-0", "cold", "none", 0),
        ("1-0", "c", "1-0", "cold", "none", 0),
        ("1-0", "new", "1-0", "cold", "none", 0),
    ]
    assert ask(HEALTH) == [on_old_nights, (TODAY, "old", 0.75, None, None)]  # the candidate's is not a night's

    promote(planted, "item", "new", instead_of="old")
    assert ids(ask) == [("a", "1-0"), ("b", "1-0"), ("c", "0-1"), ("new", "1-1")]
    assert clusters(ask) == [
        ("0", 1, 1, 0, 0, 1, 0, 0, 0),
        ("0-1", 2, 1, 0, 0, 1, 0, 0, 0),
        ("1", 1, 3, 1, 1, 1, 1, 103, 11),
        ("1-0", 2, 2, 1, 1, 0, 1, 103, 11),
        ("1-1", 2, 1, 0, 0, 1, 0, 0, 0),
    ]
    assert ask(MEMBERS) == [
        ("0", "c", "0-1", "cold", "none", 0),
        ("0-1", "c", "0-1", "cold", "none", 0),
        ("1", "a", "1-0", "head", "teacher", 100),
        ("1", "b", "1-0", "tail", "student", 3),
        ("1", "new", "1-1", "cold", "none", 0),
        ("1-0", "a", "1-0", "head", "teacher", 100),
        ("1-0", "b", "1-0", "tail", "student", 3),
        ("1-1", "new", "1-1", "cold", "none", 0),
    ]
    assert ask(HEALTH) == [on_old_nights, (TODAY, "old", 0.75, None, None)]  # nor is it later on

    rollback(planted, "item")
    assert ids(ask) == of_old
    assert clusters(ask) == clusters_of_old


def ids(ask: Ask) -> list[tuple]:
    return ask("SELECT item_id, sid FROM semantic.current_item_ids ORDER BY item_id")


def clusters(ask: Ask) -> list[tuple]:
    return ask("SELECT * FROM semantic.clusters ORDER BY prefix")


def test_a_folder_without_tables_is_refused(tmp_path):
    with pytest.raises(AktError, match=r"no tables under .*: run jobs/nightly.py first"):
        list(catalog_statements(str(tmp_path)))
