"""The plans that Spark makes: as many shuffles as the docstrings say, and no product of two tables."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from akt_spark.config import AlignmentConfig, FeaturesConfig, SamplesConfig
from akt_spark.features.activity import ENTITIES, activity_log, daily_counts, extended_log, strictly_before
from akt_spark.features.labels import labelled_impressions
from akt_spark.features.pairs import item_pairs
from akt_spark.features.samples import labelled_events, sample_features
from akt_spark.features.sequences import user_sequences

FEATURES = FeaturesConfig()


@pytest.fixture
def shuffles(spark):
    """Columns of every shuffle in the plan of a DataFrame, each with how often; broadcast joins are switched off."""
    settings = {"spark.sql.adaptive.enabled": "false", "spark.sql.autoBroadcastJoinThreshold": "-1"}
    before = {key: spark.conf.get(key) for key in settings}
    for key, value in settings.items():
        spark.conf.set(key, value)

    def count(rows):
        plan = rows._jdf.queryExecution().executedPlan().toString()
        assert "CartesianProduct" not in plan
        assert "NestedLoop" not in plan
        keys = re.findall(r"\bExchange hashpartitioning\((.+?), \d+\)", plan)
        return Counter(re.sub(r"#\d+", "", columns) for columns in keys)

    yield count
    for key, value in before.items():
        spark.conf.set(key, value)


@pytest.fixture(scope="module")
def events(frame, random_events):
    return frame(random_events(seed=1, count=50))


@pytest.fixture(scope="module")
def logs(events):
    return {entity: activity_log(daily_counts(events, entity), entity) for entity in ENTITIES}


def test_activity_goes_by_id_and_day_and_then_by_id(shuffles, events, logs):
    assert shuffles(logs["item"]) == {"item_id, ds": 1, "id": 1}


def test_a_night_of_activity_does_not_shuffle_the_log_twice(spark, shuffles, logs):
    log = spark.createDataFrame(logs["item"].collect(), logs["item"].schema)
    daily = log.selectExpr("item_id AS id", "ds", "impressions", "clicks", "carts", "purchases")
    assert shuffles(extended_log(log, daily, "item")).total() <= 6


def test_sequences_go_by_user(shuffles, events):
    assert shuffles(user_sequences(events, FEATURES)) == {"user_id": 1}


def test_labels_go_by_user_and_item(shuffles, events):
    assert shuffles(labelled_impressions(events, 30)) == {"user_id, item_id": 1}


def test_what_was_known_before_goes_by_id(spark, shuffles, logs):
    log = spark.createDataFrame(logs["user"].collect(), logs["user"].schema)
    assert shuffles(strictly_before(log.select("user_id", "ds"), log, "state")) == {"user_id": 1}


def test_samples_go_by_item_and_day_and_by_user_and_day(spark, shuffles, events, logs):
    """Wide are the samples; pairs, states and positives are the rest. With broadcast indices it is less."""
    logs = {entity: spark.createDataFrame(log.collect(), log.schema) for entity, log in logs.items()}
    indices = {e: spark.createDataFrame([], f"{e}_id string, idx int") for e in ENTITIES}
    items = spark.createDataFrame([], "item_id string, first_seen date")
    labelled = labelled_events(events, logs["item"], items, SamplesConfig(), FEATURES)
    found = shuffles(sample_features(labelled, events, logs, indices, FEATURES))
    assert found == {
        "user_id, item_id": 1,  # labels
        "item_id, ds": 3,  # pairs, what is known of them, and samples
        "user_id, ds": 4,  # pairs, what is known of them, samples with positives, and the positives of a day
        "item_id": 7,  # pairs with the log and with the index, and twice positives with the index
        "user_id": 5,  # pairs with the index, the log and the newest positives
    }


def test_pairs_go_by_user_and_kind_and_by_item(shuffles, events):
    pairs = item_pairs(events, AlignmentConfig())
    assert shuffles(pairs) == {  # items: counts of both ends, best of each
        "user_id, event_type": 1,
        "a, b": 1,
        "item_id": 3,
        "a": 1,
        "b": 1,
    }


def test_a_heavy_user_is_cut_to_the_newest_positives_before_the_shuffle(shuffles, events):
    plan = item_pairs(events, AlignmentConfig())._jdf.queryExecution().executedPlan().toString()
    _, before_the_shuffle = plan.split("Exchange hashpartitioning(user_id", 1)
    assert re.match(
        r".*?WindowGroupLimit \[user_id#\d+, event_type#\d+\].* 500, Partial", before_the_shuffle, re.DOTALL
    )
