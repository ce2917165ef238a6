"""Tables are what their schema declares, readable by name and by path, and writes can be repeated."""

from dataclasses import replace
from datetime import date

import deltalake
import duckdb
import polars
import pytest

from akt_spark.errors import AktError, DataError, MissingInput
from akt_spark.lake import BuiltOn, Lake, Table, declared_tables


def ids(spark, *pairs):
    return spark.createDataFrame(list(pairs), "item_id string, idx int")


def test_every_declared_table_can_be_created_with_comments_and_a_key_of_its_columns(spark, lake):
    for name in declared_tables():
        columns = lake.schema(name)
        assert set(Table.load(name).key) <= set(columns.names), name
        uncommented = [column.name for column in columns if not column.metadata.get("comment")]
        assert uncommented == [], f"{name} has columns without a comment"


def test_a_missing_table_names_itself_and_its_job(lake):
    with pytest.raises(
        MissingInput, match=r"semantic.item_ids does not exist: run jobs/build_semantic_ids.py"
    ) as error:
        lake.read("semantic.item_ids")
    assert error.value.exit_code == 3


def test_an_empty_table_counts_as_missing_where_rows_are_needed(lake):
    lake.register("bronze.items")
    with pytest.raises(MissingInput, match=r"bronze.items is empty: run jobs/ingest.py"):
        lake.read_rows("bronze.items")


def test_rows_that_do_not_fit_the_schema_are_refused(spark, lake):
    rows = spark.createDataFrame([("a", 1)], "item_id string, index int")
    with pytest.raises(AktError, match=r"features.item_index.*missing \['idx'\], extra \['index'\]"):
        lake.append("features.item_index", rows)


def test_a_table_whose_comments_were_written_otherwise_is_used_as_it_is(spark, lake, monkeypatch):
    table = Table.load("features.item_index")
    earlier = replace(table, sql=table.sql.replace("COMMENT '", "COMMENT 'formerly "))
    monkeypatch.setattr(Table, "load", lambda name: earlier)
    Lake(spark, lake.root).register("features.item_index")
    monkeypatch.undo()
    spark.sql("DROP TABLE features.item_index")
    later = Lake(spark, lake.root)
    later.register("features.item_index")
    assert later.read("features.item_index").columns == ["item_id", "idx"]


def test_a_constraint_of_the_schema_is_enforced(spark, lake):
    with pytest.raises(Exception, match="CHECK constraint positive"):
        lake.append("features.item_index", ids(spark, ("a", 0)))


def test_insert_new_adds_nothing_twice_and_makes_no_version_for_nothing(spark, lake):
    assert lake.insert_new("features.item_index", ids(spark, ("a", 1), ("b", 2))) == 2
    version = lake.version("features.item_index")
    assert lake.insert_new("features.item_index", ids(spark, ("a", 9), ("b", 2))) == 0
    assert lake.version("features.item_index") == version
    assert lake.insert_new("features.item_index", ids(spark, ("c", 3))) == 1
    assert {tuple(row) for row in lake.read("features.item_index").collect()} == {("a", 1), ("b", 2), ("c", 3)}


def test_merge_updates_known_keys_and_inserts_others(spark, lake):
    lake.append("features.item_index", ids(spark, ("a", 1), ("b", 2)))
    lake.merge("features.item_index", ids(spark, ("b", 5), ("c", 3)))
    assert {tuple(row) for row in lake.read("features.item_index").collect()} == {("a", 1), ("b", 5), ("c", 3)}


def test_overwrite_with_a_condition_replaces_only_those_rows(spark, lake):
    schema = "source string, reason string, row_json string, ds date, run_id string"
    rows = [("events", "why", "{}", date(2024, 1, day), f"run{day}") for day in (1, 2)]
    lake.append("bronze.quarantine", spark.createDataFrame(rows, schema))
    changed = spark.createDataFrame([("events", "other", "{}", date(2024, 1, 2), "run2")], schema)
    for _ in range(2):
        lake.overwrite("bronze.quarantine", changed, where="run_id = 'run2'")
        found = {(row.run_id, row.reason) for row in lake.read("bronze.quarantine").collect()}
        assert found == {("run1", "why"), ("run2", "other")}


def test_an_old_version_can_be_pinned(spark, lake):
    lake.append("features.item_index", ids(spark, ("a", 1)))
    version = lake.version("features.item_index")
    lake.overwrite("features.item_index", ids(spark, ("b", 2)))
    assert lake.read("features.item_index", version).head()["item_id"] == "a"


def test_a_conflicting_writer_is_tried_again_and_then_named(lake, monkeypatch):
    monkeypatch.setattr("akt_spark.lake.time.sleep", lambda seconds: None)
    attempts = []

    def conflict(until):
        attempts.append(1)
        if len(attempts) < until:
            raise RuntimeError("[DELTA_CONCURRENT_APPEND] ConcurrentAppendException: files were added")

    lake.retried("features.item_index", lambda: conflict(3))
    assert len(attempts) == 3
    attempts.clear()
    with pytest.raises(
        AktError, match=r"features.item_index: another writer kept committing \(DELTA_CONCURRENT_APPEND"
    ):
        lake.retried("features.item_index", lambda: conflict(99))


def test_rows_computed_from_a_version_that_is_no_longer_the_newest_are_computed_again(spark, lake):
    """Two writers, each of which adds what it has read last plus one: without the check both would write 1."""
    table, other = "features.item_index", Lake(spark, lake.root)
    lake.register(table)
    beside = [True]

    def add_one(own):
        version = own.version(table)
        count = own.read(table, version).count()
        if own is lake and beside:
            beside.pop()
            add_one(other)
        own.append(table, ids(spark, (f"i{count}", count + 1)), on=BuiltOn(version, {"count": count + 1}))

    lake.retried(table, lambda: add_one(lake))
    assert sorted(tuple(row) for row in lake.read(table).collect()) == [("i0", 1), ("i1", 2)]
    lake.append(table, ids(spark, ("x", 9)))
    assert lake.note(table) == {"count": 2}
    assert lake.committed[table] == lake.version(table) == 3


def test_a_pinned_lake_stands_still(spark, lake):
    table = "features.item_index"
    lake.append(table, ids(spark, ("a", 1)))
    still = lake.pinned({table: lake.version(table), "bronze.items": -1})
    lake.append(table, ids(spark, ("b", 2)))
    assert still.version(table) == 1 and still.read(table).count() == 1
    assert still.version("bronze.items") == -1


def test_other_engines_read_the_same_rows_by_path(spark, lake):
    rows = [(f"item{number}", number) for number in range(1, 101)]
    lake.append("features.item_index", ids(spark, *rows))
    lake.overwrite("features.item_index", ids(spark, *rows[:60]))
    path = lake.path("features.item_index")
    expected = (60, sum(idx for _, idx in rows[:60]))
    arrow = deltalake.DeltaTable(path).to_pyarrow_table()  # noqa: F841 (named in the query)
    assert duckdb.sql("SELECT count(*), sum(idx) FROM arrow").fetchall() == [expected]
    frame = polars.read_delta(path)
    assert (frame.height, frame["idx"].sum()) == expected
    named = spark.sql("SELECT count(*), sum(idx) FROM features.item_index").head()
    assert tuple(named) == expected


def test_tables_that_plain_parquet_readers_must_not_see_are_refused(spark, lake):
    lake.append("training.items", spark.createDataFrame([], lake.schema("training.items")))
    lake.require_plain_files("training.items")
    lake.require_plain_files("training.samples")  # there is none yet
    path = lake.path("training.users")
    spark.range(10).write.format("delta").option("delta.enableDeletionVectors", "true").save(path)
    with pytest.raises(DataError, match=r"training.users at .* has deletionVectors, .* run jobs/build_samples.py"):
        lake.require_plain_files("training.users")


def test_two_lakes_do_not_share_tables(spark, lake, tmp_path):
    lake.append("features.item_index", ids(spark, ("a", 1)))
    other = Lake(spark, str(tmp_path / "other"))
    with pytest.raises(MissingInput):
        other.read("features.item_index")
    other.append("features.item_index", ids(spark, ("b", 7)))
    assert other.read("features.item_index").count() == 1
    assert lake.read("features.item_index").head()["item_id"] == "a"
