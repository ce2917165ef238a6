from __future__ import annotations

import pytest

from akt_spark.content.waves import in_waves


def test_waves_hold_every_row_once_and_equal_texts_together_and_nothing_stays(spark, lake):
    given = [(f"i{n}", f"title {n % 50}", bytes([n % 7]) if n % 3 else None) for n in range(200)]
    rows = spark.createDataFrame(given, "item_id STRING, title STRING, image BINARY")
    with in_waves(lake, rows, 4, ["title"], "of-a-test") as waves:
        found = [sorted(wave.collect()) for wave in waves]
        assert [*lake.artifact("waves").rglob("*.parquet")]
    assert sorted(row for wave in found for row in wave) == sorted(rows.collect())
    titles = [{row["title"] for row in wave} for wave in found]
    assert sum(map(len, titles)) == 50
    assert all(titles)
    assert not [*lake.artifact("waves").rglob("*.parquet")]


@pytest.mark.parametrize("count", [0, 1])
def test_a_single_wave_is_not_written_down(spark, lake, count):
    rows = spark.range(count)
    with in_waves(lake, rows, count, ["id"], "of-a-test") as waves:
        assert waves == [rows] * count
    assert not lake.artifact("waves").exists()
