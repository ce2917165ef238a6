"""Scores of pairs that somebody brings."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from math import log1p

import pytest
import torch
from pyspark.sql import functions as F
from training.conftest import HISTORY

from akt_spark.errors import ConfigError, DataError, SourceError
from akt_spark.serving import commands
from akt_spark.serving.served import served
from akt_spark.training.score import load_rankers

from .conftest import NEXT_DAY

pytestmark = pytest.mark.night  # a lake and a training for them take a minute or two


def test_samples_of_the_test_period_get_the_scores_that_the_night_gave_them(world, tmp_path):
    lake = world.lake
    samples = lake.read("training.samples").where("split = 'test'").select("sample_id")
    events = lake.read("bronze.events").withColumnRenamed("event_id", "sample_id").join(samples, "sample_id")
    events.select("user_id", "item_id", "event_time").write.format("delta").save(f"{tmp_path}/pairs")
    lines = list(commands.score_requests(world.ctx, f"{tmp_path}/pairs", "again"))

    predicted = lake.read("serving.predictions").where("variant = 'akt_rec'").join(events, "sample_id")
    expected = {(row.user_id, row.item_id, row.event_time): row for row in predicted.collect()}
    rows = world.rows("serving.scores", "again")
    assert len(rows) == len(expected) > 50
    for row in rows:
        sample = expected[row["user_id"], row["item_id"], row["event_time"]]
        assert row["score"] == pytest.approx(sample.score, abs=1e-6)
        assert (row["user_idx"], row["item_idx"]) == (sample.user_idx, sample.item_idx)
        assert (row["run_id"], row["variant"], row["seed"]) == ("2024-01-20", "akt_rec", 1)
    assert max(row["score"] for row in rows) - min(row["score"] for row in rows) > 0.001
    assert "0 users and 0 items in them are not known" in lines[-2]
    assert lines[-1] == "SELECT * FROM serving.scores WHERE request_id = 'again'"


def test_bad_rows_are_quarantined_with_their_reason_and_a_rerun_changes_nothing(world, table):
    path = table(
        "user_id,item_id,event_time,note",
        "user1,item1,2024-01-15 10:00:00,",
        "user1,item1,2024-01-15 10:00:00,the same again",
        ",item1,2024-01-15 10:00:00,nobody",
        "user1, ,2024-01-15 10:00:00,nothing",
        "user1,item1,soon,no time",
        "user1,item1,1066-10-14,too early",
    )
    for _ in range(2):
        lines = list(commands.score_requests(world.ctx, path))
        request = lines[-1].split("'")[1]
        assert len(world.rows("serving.scores", request)) == 1
        rejected = world.lake.read("bronze.quarantine").where(F.col("run_id") == request).collect()
        assert {json.loads(row.row_json)["note"]: row.reason for row in rejected} == {
            "nobody": "user_id missing",
            "nothing": "item_id missing",
            "no time": "event_time missing or unreadable",
            "too early": "event_time before 1970 or after 2199: 1066-10-14 00:00:00",
        }
        assert {row.source for row in rejected} == {"requests"} and len(rejected) == 4
    assert request.startswith("asked-")
    assert lines[0] == "requests: 6 rows read = 1 accepted + 1 duplicates + 4 quarantined"


def test_another_ranker_is_another_request(world, table):
    path = table("user_id,item_id,event_time", "user1,item1,2024-01-15 10:00:00")
    ids = set()
    for variant in ("akt_rec", "base"):
        lines = list(commands.score_requests(world.with_settings(f"serving.variant={variant}"), path))
        ids.add(lines[-1])
        (row,) = world.rows("serving.scores", lines[-1].split("'")[1])
        assert row["variant"] == variant
    assert len(ids) == 2


def test_a_click_is_seen_after_its_time_and_not_at_it(world, table):
    click = datetime(2024, 1, 21, 3)  # user1 and item2
    times = [click - timedelta(hours=1), click, click + timedelta(microseconds=1)]
    path = table("user_id,item_id,event_time", *(f"user1,item5,{time.isoformat(' ')}" for time in times))
    list(commands.score_requests(world.ctx, path, "click"))
    rows = sorted(world.rows("serving.scores", "click"), key=lambda row: row["event_time"])
    before, at, after = (row["score"] for row in rows)
    assert before == at != after


def test_what_the_ranker_does_not_know_is_cold_and_has_its_activity_and_history_all_the_same(world, table):
    path = table(
        "user_id,item_id,event_time",
        "newcomer,novelty,2024-01-23 00:00:00",
        "newcomer,item1,2024-01-23 00:00:00",
        "nobody,nothing,2024-01-23 00:00:00",
    )
    lines = list(commands.score_requests(world.ctx, path, "cold"))
    rows = {(row["user_id"], row["item_id"]): row for row in world.rows("serving.scores", "cold")}
    ((_, _, ranker),) = load_rankers(served(world.ctx).models)
    prior = 0.25
    active = [log1p(2), 0.0, 0.0, (2 + 20 * prior) / 20, log1p(2)]  # two clicks, two days ago
    shown = [log1p(1), 0.0, 0.0, (1 + 20 * prior) / 20, log1p(2)]
    unseen = [0.0, 0.0, 0.0, prior, 0.0]
    history = torch.zeros(2, HISTORY, dtype=torch.int64)
    history[0, 0] = 1  # the click on the unknown item is in no history
    batch = {
        "user_idx": torch.tensor([0, 0]),
        "item_idx": torch.tensor([0, 0]),
        "history": history,
        "user_activity": torch.tensor([active, unseen]),
        "item_activity": torch.tensor([shown, unseen]),
    }
    with torch.no_grad():
        expected = torch.sigmoid(ranker(batch)).tolist()
    found = [rows[pair]["score"] for pair in (("newcomer", "novelty"), ("nobody", "nothing"))]
    assert found == pytest.approx(expected, abs=1e-6)
    assert [rows["newcomer", "item1"][name] for name in ("user_idx", "item_idx")] == [0, 1]
    assert "2 users and 2 items in them are not known" in lines[-2]


def test_a_table_without_a_use_says_why(world, table):
    with pytest.raises(SourceError, match="lacks the column event_time; it has user_id, item_id"):
        list(commands.score_requests(world.ctx, table("user_id,item_id", "user1,item1")))
    with pytest.raises(DataError, match=r"no row of requests can be used: 1 user_id missing \(see bronze.quarantine\)"):
        list(commands.score_requests(world.ctx, table("user_id,item_id,event_time", ",item1,2024-01-15")))
    with pytest.raises(SourceError, match=r"nowhere\.csv does not exist"):
        list(commands.score_requests(world.ctx, "nowhere.csv"))
    with pytest.raises(ConfigError, match="--request-id 'a b'"):
        list(commands.score_requests(world.ctx, "nowhere.csv", "a b"))


def test_no_plan_makes_a_product_of_tables(world):
    from akt_spark.serving.scores import scored

    pairs = world.lake.read("bronze.events").where(F.col("event_time") < F.lit(NEXT_DAY))
    plan = scored(served(world.ctx), pairs.select("user_id", "item_id", "event_time"))
    text = plan._jdf.queryExecution().executedPlan().toString()
    assert "CartesianProduct" not in text and "NestedLoop" not in text
