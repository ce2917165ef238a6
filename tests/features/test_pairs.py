"""Pairs of items on logs small enough to count by hand."""

from __future__ import annotations

from datetime import date, datetime, timedelta

import pytest
from pyspark.sql import DataFrame, SparkSession

from akt_spark.config import AlignmentConfig
from akt_spark.features.pairs import item_pairs, positives_until

START = datetime(2024, 1, 1)
EVENT = (
    "event_id STRING, user_id STRING, item_id STRING, event_type STRING, event_time TIMESTAMP, event_order BIGINT, "
    "ds DATE"
)


def log(spark: SparkSession, *clicks: tuple, event_type: str = "click") -> DataFrame:
    """Events from (user, item, day after START) or (user, item, day, type)."""
    rows = []
    for number, (user, item, day, *kind) in enumerate(clicks):
        at = START + timedelta(days=day)
        rows.append((f"e{number:03d}", user, item, kind[0] if kind else event_type, at, None, at.date()))
    return spark.createDataFrame(rows, EVENT)


def mined(events: DataFrame, **config: object) -> dict[tuple[str, str], tuple[int, float, bool]]:
    pairs = item_pairs(events, AlignmentConfig(**config)).collect()
    return {(p["item_id"], p["positive_id"]): (p["together"], p["score"], p["held_out"]) for p in pairs}


def test_counts_and_scores_match_a_calculation_by_hand(spark):
    events = log(spark, ("u", "a", 0), ("u", "b", 1), ("u", "c", 2), ("v", "b", 0), ("v", "a", 1))
    pairs = mined(events, pair_window=1, lift_gamma=0.5, lift_kappa=5.0)
    # a and b are neighbours for both users (in either order), b and c for one; clicks: a 2, b 2, c 1
    assert set(pairs) == {("a", "b"), ("b", "a"), ("b", "c"), ("c", "b")}
    assert pairs["a", "b"][:2] == pairs["b", "a"][:2] == (2, pytest.approx(2 / 2 * 2 / 7))
    assert pairs["b", "c"][:2] == (1, pytest.approx(1 / 2**0.5 * 1 / 6))


def test_only_the_next_clicks_within_window_and_gap_pair_and_never_an_item_with_itself(spark):
    events = log(spark, ("u", "a", 0), ("u", "a", 1), ("u", "b", 2), ("u", "c", 3), ("u", "d", 10.5))
    assert {tuple(sorted(pair)) for pair in mined(events, pair_window=2, pair_gap_days=7.0)} == {
        ("a", "b"),  # from both clicks on a: counted twice, once at the far end of its window
        ("a", "c"),  # from the second click on a only
        ("b", "c"),
    }
    assert mined(events, pair_window=2)["a", "b"][0] == 2
    assert ("c", "d") in mined(events, pair_window=2, pair_gap_days=7.5)


def test_a_rare_partner_scores_above_a_popular_one(spark):
    popular = [(f"w{n}", "hit", 0) for n in range(20)]
    events = log(spark, ("u", "a", 0), ("u", "hit", 1), ("v", "a", 0), ("v", "rare", 1), *popular)
    best = mined(events, pair_window=1, pairs_per_item=1)
    assert ("a", "rare") in best
    assert ("a", "hit") not in best
    assert ("hit", "a") in best  # each anchor keeps its own best


def test_both_directions_are_held_out_together_and_the_side_does_not_depend_on_partitions(spark):
    clicks = [(f"u{n}", f"i{(n * step) % 30:02d}", step) for n in range(20) for step in range(6)]
    events = log(spark, *clicks)
    pairs = mined(events, held_out_share=0.3)
    sides = {pair: held_out for pair, (_, _, held_out) in pairs.items()}
    assert all(sides[b, a] == side for (a, b), side in sides.items() if (b, a) in sides)
    assert 0.1 < sum(sides.values()) / len(sides) < 0.5
    assert mined(events.repartition(5, "event_id"), held_out_share=0.3) == pairs


def test_only_clicks_of_the_training_period_are_known(spark):
    clicks = log(spark, ("u", "a", 0), ("u", "b", 1), ("u", "c", 2))
    impressions = log(spark, ("u", "x", 0), event_type="impression")
    known = positives_until(clicks.unionByName(impressions), date(2024, 1, 2), ["click"])
    assert {row["item_id"] for row in known.collect()} == {"a", "b"}


def test_purchases_pair_with_purchases_and_never_with_clicks(spark):
    browsed = [("u", "a", 0.0), ("u", "b", 0.1), ("u", "c", 0.2)]
    bought = [("u", "a", 0.05, "purchase"), ("u", "d", 0.15, "purchase")]
    pairs = mined(log(spark, *browsed, *bought), pair_window=1)
    assert {tuple(sorted(pair)) for pair in pairs} == {("a", "b"), ("b", "c"), ("a", "d")}
    # the purchase of a between two clicks takes no place in their window, but counts in its popularity
    assert pairs["a", "b"][1] == pytest.approx(1 / 2**0.5 * 1 / 6)


def test_only_the_configured_kinds_are_positives(spark):
    events = log(spark, ("u", "a", 0), ("u", "b", 1), ("u", "a", 0, "purchase"), ("u", "c", 1, "cart"))
    known = positives_until(events, date(2024, 1, 9), ["click", "purchase"])
    assert sorted(row["event_type"] for row in known.collect()) == ["click", "click", "purchase"]


def test_the_pairs_of_a_heavy_user_come_from_the_newest_positives(spark):
    events = log(spark, *(("u", f"i{day}", day) for day in range(6)))
    pairs = {tuple(sorted(pair)) for pair in mined(events, pair_window=1, pair_history=3)}
    assert pairs == {("i3", "i4"), ("i4", "i5")}
