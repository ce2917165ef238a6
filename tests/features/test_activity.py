from __future__ import annotations

from datetime import date
from math import log1p

import pytest
from pyspark.sql import functions as F

from akt_spark.config import FeaturesConfig
from akt_spark.errors import DataError, MissingInput
from akt_spark.features import activity
from akt_spark.features.activity import activity_log, activity_vector, as_of, daily_counts, strictly_before

DAY = {n: date(2024, 1, n) for n in range(1, 32)}


@pytest.fixture
def item_log(log):
    events = log(
        ("u1", "a", "impression", "2024-01-02 10:00"),
        ("u1", "a", "click", "2024-01-02 10:01"),
        ("u2", "a", "impression", "2024-01-02 23:59:59"),
        ("u1", "a", "cart", "2024-01-05 00:00"),
        ("u1", "a", "purchase", "2024-01-05 00:10"),
        ("u1", "b", "impression", "2024-01-03 12:00"),
    )
    return activity_log(daily_counts(events, "item"), "item")


def test_a_row_stands_for_an_active_day_and_counts_everything_up_to_it(item_log):
    rows = sorted(tuple(row) for row in item_log.collect())
    assert rows == [
        ("a", DAY[2], 2, 1, 0, 0, 1, DAY[2], DAY[2]),
        ("a", DAY[5], 2, 1, 1, 1, 2, DAY[2], DAY[5]),
        ("b", DAY[3], 1, 0, 0, 0, 1, DAY[3], DAY[3]),
    ]


@pytest.mark.parametrize(("day", "carts"), [(DAY[2], {"a": 0}), (DAY[5], {"a": 1, "b": 0})])
def test_as_of_is_the_last_row_not_after_the_day(item_log, day, carts):
    assert {row["item_id"]: row["carts"] for row in as_of(item_log, day).collect()} == carts


def test_a_pair_sees_only_days_strictly_before_its_own(spark, item_log):
    pairs = [("a", DAY[n]) for n in (1, 2, 3, 5, 6)] + [("never seen", DAY[6])]
    asked = spark.createDataFrame([(n, *row) for n, row in enumerate(pairs)], "n int, item_id string, ds date")
    known = strictly_before(asked, item_log, into="state").orderBy("n")
    assert known.columns == ["n", "item_id", "ds", "state"]
    active_days = [row["state"] and row["state"]["active_days"] for row in known.collect()]
    assert active_days == [None, None, 1, 1, 2, None]


def test_the_vector_holds_logs_of_counts_the_smoothed_ctr_and_the_age(spark, item_log):
    config = FeaturesConfig(ctr_prior=0.1, ctr_prior_weight=10.0)
    row = as_of(item_log, DAY[5]).where("item_id = 'a'").select(F.struct("*").alias("state"))
    vector = row.select(activity_vector(F.col("state"), F.lit(DAY[9]), config).alias("v")).head()["v"]
    assert vector == pytest.approx([log1p(1), log1p(2), log1p(2), (1 + 1) / (2 + 10), log1p(7)], rel=1e-6)


def test_an_id_without_history_has_zeros_and_the_prior(item_log):
    config = FeaturesConfig(ctr_prior=0.25)
    nothing = item_log.limit(1).select(F.when(F.lit(False), F.struct(*item_log.columns)).alias("state"))
    vector = nothing.select(activity_vector(F.col("state"), F.lit(DAY[9]), config).alias("v")).head()["v"]
    assert vector == [0.0, 0.0, 0.0, 0.25, 0.0]
    assert len(activity.ACTIVITY_FEATURES) == len(vector)


def test_both_logs_equal_duckdb_and_later_days_stay_unseen(context, bronze, random_events, duck):
    lake = bronze(random_events(seed=3, count=600))
    outcome = activity.run(context)
    for entity in activity.ENTITIES:
        oracle = f"""
            WITH daily AS (
                SELECT {entity}_id AS id, ds, event_type FROM events WHERE ds <= $ds
            ), days AS (SELECT DISTINCT id, ds FROM daily)
            SELECT id, days.ds,
                count(*) FILTER (event_type = 'impression'), count(*) FILTER (event_type = 'click'),
                count(*) FILTER (event_type = 'cart'), count(*) FILTER (event_type = 'purchase'),
                count(DISTINCT daily.ds), min(daily.ds), max(daily.ds)
            FROM days JOIN daily USING (id) WHERE daily.ds <= days.ds GROUP BY id, days.ds
        """
        expected = duck(lake, "bronze.events", oracle, ds=context.ds)
        assert sorted(tuple(row) for row in lake.read(f"features.{entity}_activity").collect()) == sorted(expected)
    in_time = lake.read("bronze.events").where(F.col("ds") <= F.lit(context.ds)).count()
    assert outcome.rows_in == in_time < 600
    assert f"from {in_time} events" in outcome.notes[0]


def test_a_missing_log_names_the_job_that_makes_it(context):
    with pytest.raises(MissingInput, match=r"bronze.events does not exist: run jobs/ingest.py"):
        activity.run(context)


def test_a_ds_before_the_log_says_which_days_there_are(context, lake, log):
    lake.overwrite(
        "bronze.events", log(("u", "a", "click", "2024-02-03 10:00"), ("u", "a", "click", "2024-02-05 10:00"))
    )
    with pytest.raises(DataError, match=r"--ds 2024-01-31: bronze.events holds 2024-02-03 to 2024-02-05"):
        activity.run(context)
