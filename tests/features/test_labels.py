from __future__ import annotations

import pytest

from akt_spark.features.labels import labelled_impressions


def labels(events, minutes=30.0):
    rows = labelled_impressions(events, minutes).collect()
    assert len({row["event_id"] for row in rows}) == len(rows)
    assert {row["event_type"] for row in rows} == {"impression"}
    return {row["event_id"]: row["label"] for row in rows}


def test_an_impression_is_clicked_when_a_click_of_the_pair_follows_inside_the_window(log):
    events = log(
        ("u", "a", "impression", "2024-01-01 10:00"),
        ("u", "a", "click", "2024-01-01 10:30"),
        ("u", "b", "impression", "2024-01-01 10:00"),
        ("u", "b", "click", "2024-01-01 10:30:00.000001"),
        ("u", "c", "impression", "2024-01-01 10:00"),
        ("v", "c", "click", "2024-01-01 10:10"),
        ("u", "d", "click", "2024-01-01 09:59"),
        ("u", "d", "impression", "2024-01-01 10:00"),
        ("u", "e", "impression", "2024-01-01 10:00"),
        ("u", "e", "purchase", "2024-01-01 10:10"),
    )
    assert labels(events) == {"e0": 1.0, "e2": 0.0, "e4": 0.0, "e7": 0.0, "e8": 0.0}


def test_several_clicks_do_not_repeat_an_impression(log):
    click = ("u", "a", "click", "2024-01-01 10:01")
    assert labels(log(("u", "a", "impression", "2024-01-01 10:00"), click, click, click)) == {"e0": 1.0}


def test_a_click_labels_only_the_latest_impression_before_it(log):
    shown = [("u", "a", "impression", f"2024-01-01 10:0{n}") for n in (0, 1, 3)]
    events = log(*shown, ("u", "a", "click", "2024-01-01 10:02"))
    assert labels(events) == {"e0": 0.0, "e1": 1.0, "e2": 0.0}


@pytest.mark.parametrize(
    ("impression_order", "click_order", "label"),
    [(None, None, 1.0), (1, 2, 1.0), (2, 1, 0.0), (2, None, 1.0), (None, 1, 1.0)],
)
def test_a_click_at_the_same_time_counts_unless_the_order_puts_it_first(log, impression_order, click_order, label):
    time = "2024-01-01 10:00"
    events = log(("u", "a", "click", time, click_order), ("u", "a", "impression", time, impression_order))
    assert labels(events, minutes=0.0) == {"e1": label}
