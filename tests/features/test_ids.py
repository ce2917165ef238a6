"""Dense ids: stable, append-only, and the same however the ids are distributed."""

from __future__ import annotations

from pyspark.sql import SparkSession

from akt_spark.features import ids as ids_module
from akt_spark.features.ids import extend_index
from akt_spark.lake import Lake


def _index(lake: Lake) -> dict[str, int]:
    return {row["item_id"]: row["idx"] for row in lake.read("features.item_index").collect()}


def _ids(spark: SparkSession, *ids: str):
    return spark.createDataFrame([(name,) for name in ids], "item_id STRING")


def test_known_ids_keep_their_numbers_and_new_ones_follow(spark: SparkSession, lake: Lake) -> None:
    assert extend_index(lake, "item", _ids(spark, "c", "b", "b")) == 2
    assert _index(lake) == {"b": 1, "c": 2}

    assert extend_index(lake, "item", _ids(spark, "d", "a", "c")) == 2  # 'a' sorts first, yet comes after 'c'
    assert _index(lake) == {"b": 1, "c": 2, "a": 3, "d": 4}


def test_no_new_id_makes_no_new_version(spark: SparkSession, lake: Lake) -> None:
    extend_index(lake, "item", _ids(spark, "a", "b"))
    version = lake.version("features.item_index")

    assert extend_index(lake, "item", _ids(spark, "b")) == 0
    assert lake.version("features.item_index") == version


def test_numbers_do_not_depend_on_how_ids_are_cut_into_ranges(spark: SparkSession, lake: Lake) -> None:
    names = [f"item-{(n * 7919) % 997}" for n in range(997)]

    extend_index(lake, "item", _ids(spark, *names).repartition(5), bucket_rows=90)  # 12 ranges

    assert _index(lake) == {name: place for place, name in enumerate(sorted(names), start=1)}


def test_of_two_runs_at_once_one_starts_again(spark: SparkSession, lake: Lake, monkeypatch) -> None:
    extend_index(lake, "item", _ids(spark, "a"))
    numbered, attempts = ids_module._numbered, []

    def while_another_run_finishes(new, key, buckets):
        attempts.append(1)
        if len(attempts) == 1:
            other = Lake(spark, lake.root)
            monkeypatch.setattr(ids_module, "_numbered", numbered)
            extend_index(other, "item", _ids(spark, "b", "c"))
            monkeypatch.setattr(ids_module, "_numbered", while_another_run_finishes)
        return numbered(new, key, buckets)

    monkeypatch.setattr(ids_module, "_numbered", while_another_run_finishes)
    assert extend_index(lake, "item", _ids(spark, "c", "d")) == 1
    assert len(attempts) == 2
    assert _index(lake) == {"a": 1, "b": 2, "c": 3, "d": 4}
