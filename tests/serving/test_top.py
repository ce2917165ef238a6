"""The best candidates of every user."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
from pyspark.sql import functions as F

from akt_spark.errors import ConfigError
from akt_spark.serving import commands, top
from akt_spark.training.score import Models

from .conftest import NEXT_DAY, pairs_of

AS_OF = datetime(2024, 1, 22, tzinfo=UTC)
CANDIDATES = ["item1", "item2", "item3", "item5", "item8", "item13", "novelty", "nothing"]


@pytest.fixture(scope="module")
def all_scores(world, tmp_path_factory):
    """(user, item): score, for all users and candidates, by the way of single pairs."""
    items = world.lake.spark.createDataFrame([(item,) for item in CANDIDATES], "item_id string")
    users = world.lake.read("features.user_index")
    path = pairs_of(users, items, AS_OF, tmp_path_factory.mktemp("all") / "pairs")
    list(commands.score_requests(world.ctx, path, "all"))
    return {(row["user_id"], row["item_id"]): row["score"] for row in world.rows("serving.scores", "all")}


def ranked(world, request):
    """user: its (item, score), by rank."""
    found = {}
    for row in sorted(world.rows("serving.top_items", request), key=lambda row: row["rank"]):
        found.setdefault(row["user_id"], []).append((row["item_id"], row["score"]))
        assert row["rank"] == len(found[row["user_id"]])
        assert row["as_of"] == AS_OF.replace(tzinfo=None)
    return found


def assert_best(found, scores, count):
    """The scores of each place are those of the sorted pairs; batches of other shapes differ in the last digits."""
    for user, items in found.items():
        mine = {item: score for (who, item), score in scores.items() if who == user}
        assert [score for _, score in items] == pytest.approx(sorted(mine.values(), reverse=True)[:count], abs=1e-6)
        assert all(score == pytest.approx(mine[item], abs=1e-6) for item, score in items)
        assert len({item for item, _ in items}) == len(items) == min(count, len(mine))


@pytest.mark.night
@pytest.mark.parametrize("batch_pairs", [7, 8192])
def test_all_users_get_the_best_of_all_candidates_whatever_the_size_of_a_batch(world, table, all_scores, batch_pairs):
    path = table("item_id", *CANDIDATES, "item1")
    ctx = world.with_settings(f"serving.batch_pairs={batch_pairs}")
    lines = list(commands.rank_candidates(ctx, path, 3, moment=AS_OF, given_id="shared"))
    found = ranked(world, "shared")
    assert found.keys() == {user for user, _ in all_scores} and "newcomer" in found
    assert_best(found, all_scores, 3)
    assert "the best 3 candidates of 20 users as of 2024-01-22 00:00 UTC" in lines[-2]
    folder = world.lake.artifact("candidates", "shared")
    assert not list(folder.iterdir())  # what workers read is gone


@pytest.mark.night
def test_users_get_the_best_of_their_own_candidates(world, table, all_scores, monkeypatch):
    monkeypatch.setattr(top, "LISTED", 2)
    own = {"user1": CANDIDATES[:5], "user2": CANDIDATES[4:], "user3": ["item5"]}
    path = table("user_id,item_id", *(f"{user},{item}" for user, items in own.items() for item in items))
    users = table("user_id", "user1", "user3", "user4", "user1", name="users.csv")
    list(commands.rank_candidates(world.ctx, path, 3, moment=AS_OF, given_id="own"))
    found = ranked(world, "own")
    scores = {(user, item): all_scores[user, item] for user, items in own.items() for item in items}
    assert found.keys() == own.keys()
    assert_best(found, scores, 3)

    list(commands.rank_candidates(world.ctx, path, 3, users_path=users, moment=AS_OF, given_id="own"))
    assert ranked(world, "own") == {user: found[user] for user in ("user1", "user3")}


@pytest.mark.night
def test_rejected_candidates_and_users_are_quarantined_beside_each_other(world, table):
    path = table("item_id,note", "item1,", ",nothing")
    users = table("user_id,note", "user1,", ",nobody", name="users.csv")
    lines = list(commands.rank_candidates(world.ctx, path, 1, users_path=users, given_id="rejected"))
    rows = world.lake.read("bronze.quarantine").where(F.col("run_id") == "rejected").collect()
    reasons = {row.source: row.reason for row in rows}
    assert reasons == {"candidates": "item_id missing", "users": "user_id missing"}
    (row,) = world.rows("serving.top_items", "rejected")
    assert row["as_of"] == NEXT_DAY.replace(tzinfo=None)  # the end of the night's day
    assert "  quarantined 1: user_id missing" in lines


@pytest.mark.night
def test_nothing_to_keep_is_refused(world):
    with pytest.raises(ConfigError, match="--top 0"):
        list(commands.rank_candidates(world.ctx, "items.csv", 0))


@pytest.mark.night
def test_no_plan_makes_a_product_of_tables(world):
    lists = world.lake.read("bronze.events").select("user_id", "item_id")
    users = lists.select("user_id", F.lit(1).alias("user_idx")).distinct()
    for own in (None, lists):
        rows = top.best(users, own, [], Models((), (), ()), 3, 10, 2)
        plan = rows._jdf.queryExecution().executedPlan().toString()
        assert "CartesianProduct" not in plan and "NestedLoop" not in plan


@pytest.mark.parametrize("batch_pairs", [1, 4, 5, 100])
def test_no_batch_is_larger_than_configured_and_every_pair_is_scored_once(monkeypatch, batch_pairs):
    """Items score by a table; equal scores go to the earlier candidate."""
    value = np.array([0.5, 0.9, 0.1, 0.9, 0.3, 0.7], np.float32)
    batches = []

    def probability(_, batch):
        batches.append(list(zip(batch["user_idx"].tolist(), batch["item_idx"].tolist(), strict=True)))
        return value[batch["item_idx"]]

    monkeypatch.setattr(top, "click_probability", probability)
    lists = [np.array([0, 1, 2, 3, 4]), np.array([], np.int64), np.array([2]), np.array([1, 3, 5])]
    users, items = {"user_idx": np.arange(10, 14)}, {"item_idx": np.arange(6)}
    found = np.concatenate(list(top._best_of_rows(None, users, items, lists, 2, batch_pairs)))
    assert [(pair["row"], pair["candidate"]) for pair in found] == [(0, 1), (0, 3), (2, 2), (3, 1), (3, 3)]
    assert found["score"].tolist() == pytest.approx([0.9, 0.9, 0.1, 0.9, 0.9])
    assert max(map(len, batches)) <= batch_pairs
    scored = [pair for batch in batches for pair in batch]
    assert scored == [(10 + row, item) for row, places in enumerate(lists) for item in places.tolist()]
