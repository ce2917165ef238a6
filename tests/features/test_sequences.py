from __future__ import annotations

import re
from datetime import date

from pyspark.sql import functions as F

from akt_spark.config import FeaturesConfig
from akt_spark.features import sequences
from akt_spark.features.sequences import user_sequences


def items_of(events, **config):
    rows = user_sequences(events, FeaturesConfig(**config)).collect()
    return {row["user_id"]: row["items"] for row in rows}


def test_only_history_events_enter_newest_first_and_cut_to_the_length(log):
    events = log(
        ("u", "a", "click", "2024-01-01 10:00"),
        ("u", "b", "purchase", "2024-01-03 10:00"),
        ("u", "c", "impression", "2024-01-04 10:00"),
        ("u", "d", "click", "2024-01-02 10:00"),
        ("v", "c", "impression", "2024-01-04 10:00"),
    )
    assert items_of(events) == {"u": ["b", "d", "a"]}
    assert items_of(events, sequence_length=2) == {"u": ["b", "d"]}
    assert items_of(events, history_events=["click"]) == {"u": ["d", "a"]}


def test_equal_times_are_ordered_by_event_order_then_by_event_id(log):
    time = "2024-01-01 10:00"
    events = log(
        ("u", "without order", "click", time),
        ("u", "third", "click", time, 3),
        ("u", "first", "click", time, 1),
        ("u", "third again", "click", time, 3),
        ("u", "earlier", "click", "2024-01-01 09:59", 9),
    )
    assert items_of(events)["u"] == ["without order", "third again", "third", "first", "earlier"]


def test_types_times_and_length_belong_to_the_items(log):
    events = log(("u", "a", "click", "2024-01-01 10:00"), ("u", "b", "cart", "2024-01-03 10:00"))
    row = user_sequences(events, FeaturesConfig()).select("*", F.expr("transform(event_times, t -> string(t))")).head()
    assert (row["as_of"], row["length"]) == (date(2024, 1, 3), 2)
    assert (row["event_types"], row["event_ids"]) == (["cart", "click"], ["e1", "e0"])
    assert row[-1] == ["2024-01-03 10:00:00", "2024-01-01 10:00:00"]


def test_users_with_a_huge_history_cost_only_the_newest_events(spark):
    times = F.timestamp_seconds(F.lit(1_704_000_000) + F.col("id"))
    huge = spark.range(200_000).select(
        F.format_string("e%09d", "id").alias("event_id"),
        F.format_string("u%d", F.col("id") % 2).alias("user_id"),
        F.format_string("i%d", "id").alias("item_id"),
        F.lit("click").alias("event_type"),
        times.alias("event_time"),
        F.lit(None).cast("bigint").alias("event_order"),
    )
    newest = {"u0": ["i199998", "i199996"], "u1": ["i199999", "i199997"]}
    assert items_of(huge, sequence_length=2) == newest
    plan = user_sequences(huge, FeaturesConfig())._jdf.queryExecution().executedPlan().toString()
    steps = re.findall("WindowGroupLimit|Exchange", plan)  # read upwards: cut, shuffled once, cut
    assert steps == ["WindowGroupLimit", "Exchange", "WindowGroupLimit"]


def test_sequences_equal_duckdb_and_later_days_stay_unseen(context, bronze, random_events, duck):
    length, lake = 7, bronze(random_events(seed=7, count=500))
    features = context.config.features.model_copy(update={"sequence_length": length})
    config = context.config.model_copy(update={"features": features})
    outcome = sequences.run(type(context)(context.spark, lake, config, context.ds, context.run_id))
    oracle = """
        WITH ranked AS (
            SELECT *, row_number() OVER (PARTITION BY user_id ORDER BY event_time DESC,
                event_order DESC NULLS FIRST, event_id DESC) AS rank
            FROM events WHERE ds <= $ds AND event_type IN ('click', 'cart', 'purchase')
        )
        SELECT user_id, max(ds), count(*), list(item_id ORDER BY rank), list(event_type ORDER BY rank),
            list(event_order ORDER BY rank), list(event_id ORDER BY rank)
        FROM ranked WHERE rank <= $length GROUP BY user_id
    """
    expected = duck(lake, "bronze.events", oracle, ds=context.ds, length=length)
    rows = lake.read("features.user_sequences").drop("event_times").collect()
    assert sorted(tuple(row) for row in rows) == sorted(expected)
    assert outcome.rows_out == len(expected)
