"""Deciles in prompts, on counts small enough to rank by hand, and what prompts may know."""

from __future__ import annotations

from datetime import date, datetime, timedelta

import pytest
from pyspark.sql import DataFrame, SparkSession

from akt_spark.content.prompts import item_prompt
from akt_spark.content.statistics import item_statistics, statistics_hash, with_statistics

UNTIL = date(2024, 1, 25)


def log(spark: SparkSession, counts: dict[str, dict[str, int]], day: date = UNTIL) -> DataFrame:
    """As many events of each type as given."""
    at = datetime.combine(day, datetime.min.time())
    rows = [(item, kind, at, day) for item, kinds in counts.items() for kind, n in kinds.items() for _ in range(n)]
    return spark.createDataFrame(rows, "item_id STRING, event_type STRING, event_time TIMESTAMP, ds DATE")


def told(events: DataFrame) -> dict[str, str]:
    return {row["item_id"]: row["statistics"] for row in item_statistics(events, UNTIL).collect()}


@pytest.fixture(scope="module")
def events(spark) -> DataFrame:
    """i1 to i5 are shown 10, 20, ... 50 times; a click on every second impression of i5, one of the others; buyers."""
    counts = {f"i{n}": {"impression": 10 * n, "click": 1} for n in range(1, 5)}
    counts["i5"] = {"impression": 50, "click": 25, "cart": 5, "purchase": 5}
    counts |= {"rare": {"impression": 9, "click": 9}, "ignored": {"impression": 10}}
    return log(spark, counts)


def test_deciles_rank_the_items_that_were_shown_ten_times(events):
    assert told(events) == {
        # CTR: ignored 0, i4 1/40, i3, i2, i1, i5 1/2; of clicks only i5's became purchases
        "ignored": "CTR 1/10, CVR unknown, cart 1/10, exposures 1/10",
        "i4": "CTR 2/10, CVR 1/10, cart 1/10, exposures 7/10",
        "i3": "CTR 4/10, CVR 1/10, cart 1/10, exposures 6/10",
        "i2": "CTR 6/10, CVR 1/10, cart 1/10, exposures 4/10",
        "i1": "CTR 7/10, CVR 1/10, cart 1/10, exposures 1/10",
        "i5": "CTR 9/10, CVR 9/10, cart 9/10, exposures 9/10",
    }


def test_items_that_were_hardly_shown_are_unknown(spark, events):
    items = spark.createDataFrame([("rare",), ("new",)], "item_id STRING")
    rows = with_statistics(items, item_statistics(events, UNTIL)).collect()
    assert {row["item_id"]: row["statistics"] for row in rows} == {"rare": "unknown", "new": "unknown"}


def test_events_after_the_training_period_change_no_statistic(spark, events):
    known = item_statistics(events, UNTIL)
    later = log(spark, {"i1": {"impression": 500, "click": 400}, "new": {"impression": 90}}, UNTIL + timedelta(days=1))
    leaked = item_statistics(events.unionByName(later), UNTIL)
    assert sorted(leaked.collect()) == sorted(known.collect())
    assert statistics_hash(leaked) == statistics_hash(known.repartition(3))
    assert statistics_hash(item_statistics(events.unionByName(later), UNTIL + timedelta(days=1))) != (
        statistics_hash(known)
    )


def test_the_prompt_tells_them_before_the_description_which_may_be_cut():
    assert item_prompt("t", description="d", statistics="CTR 3/10") == "Title: t. Stats: CTR 3/10. Description: d"
