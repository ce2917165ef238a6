from __future__ import annotations

import pytest
from pyspark.sql import functions as F

from akt_spark.features.histories import padded, with_histories


def histories(events, length=10):
    """History of every impression, with the events' items ``i<number>`` as item_idx."""
    indexed = events.withColumn("item_idx", F.regexp_extract("item_id", r"\d+", 0).cast("int"))
    samples = events.where("event_type = 'impression'").select("event_id", "user_id", "ds", "event_time", "event_order")
    days = samples.select("user_id", "ds").distinct()
    rows = with_histories(samples, indexed.where("event_type != 'impression'"), days, length).collect()
    assert len({row["event_id"] for row in rows}) == len(rows)
    return {row["event_id"]: row["history"] for row in rows}


def test_a_history_holds_the_newest_earlier_events_of_the_user_newest_first(log):
    events = log(
        ("u", "i1", "click", "2024-01-01 10:00"),
        ("u", "i2", "cart", "2024-01-01 11:00"),
        ("u", "i9", "impression", "2024-01-01 12:00"),
        ("u", "i3", "purchase", "2024-01-01 13:00"),
        ("u", "i9", "impression", "2024-01-01 14:00"),
        ("v", "i9", "impression", "2024-01-01 14:00"),
    )
    assert histories(events) == {"e2": [2, 1], "e4": [3, 2, 1], "e5": []}
    assert histories(events, length=2) == {"e2": [2, 1], "e4": [3, 2], "e5": []}
    assert histories(events, length=1) == {"e2": [2], "e4": [3], "e5": []}


def test_equal_timestamps_are_excluded_from_the_history(log):
    noon = "2024-01-01 12:00"
    events = log(
        ("u", "i1", "click", noon),
        ("u", "i2", "click", "2024-01-01 11:59:59.999999"),
        ("u", "i9", "impression", noon),
        ("u", "i8", "impression", noon, 5),
    )
    assert histories(events) == {"e2": [2], "e3": [2]}


def test_event_order_decides_between_equal_timestamps_where_both_events_have_one(log):
    noon = "2024-01-01 12:00"
    events = log(
        ("u", "i1", "click", noon, 1),
        ("u", "i3", "click", noon, 3),
        ("u", "i5", "click", noon),
        ("u", "i9", "impression", noon, 2),
        ("u", "i9", "impression", noon, 3),
        ("u", "i9", "impression", noon, 4),
        ("u", "i9", "impression", noon),
    )
    assert histories(events) == {"e3": [1], "e4": [1], "e5": [3, 1], "e6": []}


@pytest.mark.parametrize(("seed", "length"), [(0, 3), (2, 40)])
def test_histories_equal_a_plain_python_oracle_on_random_logs_with_ties(frame, random_events, seed, length):
    events = random_events(seed, count=700)
    positives = sorted(
        (event for event in events if event.event_type != "impression"),
        key=lambda e: (e.event_time, float("inf") if e.event_order is None else e.event_order, e.event_id),
    )

    def strictly_before(event, sample):
        if event.event_time == sample.event_time:
            return None not in (event.event_order, sample.event_order) and event.event_order < sample.event_order
        return event.event_time < sample.event_time

    expected = {
        sample.event_id: [
            int(event.item_id[1:])
            for event in reversed(positives)
            if event.user_id == sample.user_id and strictly_before(event, sample)
        ][:length]
        for sample in events
        if sample.event_type == "impression"
    }
    assert sum(len(history) == length for history in expected.values()) > 20  # the limit is met, ...
    assert sum(len(history) < length for history in expected.values()) > 20  # ... and not always
    assert histories(frame(events), length) == expected


def test_a_heavy_user_is_spread_over_tasks_by_day(spark):
    """100,000 events of one user in 70 days."""
    one_user = spark.range(100_000).select(
        F.format_string("e%06d", "id").alias("event_id"),
        F.lit("u").alias("user_id"),
        F.timestamp_seconds(F.lit(1_704_000_000) + F.col("id") * 60).alias("event_time"),
        F.lit(None).cast("bigint").alias("event_order"),
        F.col("id").cast("int").alias("item_idx"),
    )
    one_user = one_user.withColumn("ds", F.to_date("event_time"))
    samples, positives = one_user.where("item_idx % 5 > 0").drop("item_idx"), one_user.where("item_idx % 5 = 0")
    spark.conf.set("spark.sql.adaptive.coalescePartitions.enabled", False)
    try:
        found = with_histories(samples, positives, samples.select("user_id", "ds").distinct(), 20)
        rows = found.select("event_id", "history", F.spark_partition_id().alias("task")).persist()
        assert rows.select("task").distinct().count() > 1
        short, first = rows.where("size(history) < 20").count(), rows.where("event_id = 'e000001'").head()
        assert (short, first["history"]) == (19 * 4, [0])
        last = rows.where("event_id = 'e099999'").head()
        assert last["history"] == [99_995 - 5 * n for n in range(20)]
    finally:
        spark.conf.unset("spark.sql.adaptive.coalescePartitions.enabled")
        rows.unpersist()


def test_padding_fills_with_zeros_behind_the_newest(spark):
    rows = spark.createDataFrame([([7, 5],), ([],), ([1, 2, 3],)], "history array<int>")
    assert [row[0] for row in rows.select(padded("history", 3)).collect()] == [[7, 5, 0], [0, 0, 0], [1, 2, 3]]
