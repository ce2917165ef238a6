from __future__ import annotations

import pytest

from akt_spark.config import SegmentConfig
from akt_spark.content.coverage import coverage_note, pair_coverage

RULE = SegmentConfig(tail_below=2, teacher_at_least=4, student_below=2)
EVENT = "item_id STRING, event_type STRING"


@pytest.fixture
def catalogue(spark):
    return spark.createDataFrame([(item,) for item in "abcde"], "item_id STRING")


@pytest.fixture
def pairs(spark):
    return spark.createDataFrame([("a", "b"), ("b", "a"), ("a", "d")], "item_id STRING, positive_id STRING")


def test_coverage_is_told_of_head_mid_and_tail(spark, catalogue, pairs):
    shown = {"a": 4, "b": 3, "c": 2, "d": 1, "e": 0}
    events = [(item, "impression") for item, n in shown.items() for _ in range(n)] + [("e", "click")] * 9
    coverage = pair_coverage(catalogue, pairs, spark.createDataFrame(events, EVENT), RULE)
    assert coverage == {
        "coverage_head": 1.0,  # a
        "items_head": 1.0,
        "coverage_mid": 0.5,  # b and not c
        "items_mid": 2.0,
        "coverage_tail": 0.5,  # d and not e
        "items_tail": 2.0,
    }
    assert coverage_note(coverage) == (
        "pairs cover 100.0% of 1 head items, 50.0% of 2 mid items, 50.0% of 2 tail items"
    )


def test_a_log_without_impressions_is_counted_by_its_events(spark, catalogue, pairs):
    events = spark.createDataFrame([("b", "purchase")] * 5 + [("c", "purchase")] * 2, EVENT)
    coverage = pair_coverage(catalogue, pairs, events, RULE)
    assert (coverage["items_head"], coverage["coverage_head"]) == (1.0, 1.0)  # b
    assert (coverage["items_mid"], coverage["coverage_mid"]) == (1.0, 0.0)  # c
    assert coverage["coverage_tail"] == pytest.approx(2 / 3)  # a and d of a, d, e


def test_a_segment_without_items_covers_nothing(spark, catalogue, pairs):
    coverage = pair_coverage(catalogue, pairs, spark.createDataFrame([("a", "impression")], EVENT), RULE)
    assert (coverage["coverage_head"], coverage["items_head"]) == (0.0, 0.0)
