"""What prompts tell of users, from tables; and nights with the prompt user model."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from akt_spark.config import InterestConfig
from akt_spark.content import align, embed
from akt_spark.content.driver import prompt_data
from akt_spark.content.encoders import encoder_spec
from akt_spark.content.head import ProjectionHead
from akt_spark.content.prompt_rows import prompt_inputs
from akt_spark.content.registry import current, model_folder
from akt_spark.content.user_rows import item_vectors, user_inputs
from akt_spark.content.users import embed_users
from akt_spark.errors import HealthGateError, MissingInput
from akt_spark.features.pairs import positives_until
from akt_spark.lake import Lake
from akt_spark.stage import Context
from content.conftest import (
    DS,
    GROUPS,
    PER_GROUP,
    TRAIN_END,
    clicks_in_groups,
    item_id,
    small_config,
    write_events,
    write_items,
    write_shop,
)
from content.test_tuning import NOISE
from content.tiny_qwen import tiny_qwen

AFTER = datetime.combine(TRAIN_END + timedelta(days=1), datetime.min.time())


def log(spark, later: bool = False) -> DataFrame:
    """Of `u`: clicks 20 and 10 days before the end, and 9, 9, 3 and 0 days; a purchase; an impression; later events."""
    end = datetime.combine(TRAIN_END, datetime.min.time())
    rows = [("click", n, end - timedelta(days=days, hours=-n)) for n, days in enumerate((20, 10, 9, 9, 3, 0))]
    rows += [("purchase", 7, end), ("impression", 7, end - timedelta(days=5))]
    rows += [(kind, n, AFTER + timedelta(hours=n)) for kind in ("click", "purchase") for n in range(5 * later)]
    events = [(f"e{i}", "u", f"i{n}", kind, at, None, at.date()) for i, (kind, n, at) in enumerate(rows)]
    fields = "event_id STRING, user_id STRING, item_id STRING, event_type STRING, event_time TIMESTAMP, "
    return spark.createDataFrame(events, fields + "event_order LONG, ds DATE").coalesce(1)


def inputs(spark, events: DataFrame, as_of: date = TRAIN_END, days: int | None = 10) -> dict[str, dict]:
    people = [("u", {"sex": "F", "age": "21"}), ("nobody", {})]
    users = spark.createDataFrame(people, "user_id STRING, profile MAP<STRING, STRING>").coalesce(1)
    items = spark.createDataFrame([(f"i{n}", f"hash {n}") for n in range(9)], "item_id STRING, content_hash STRING")
    config = InterestConfig(model="prompt", history=3, days=days)
    known = user_inputs(users, positives_until(events, as_of, config.events), items.coalesce(1), config)
    rows = prompt_inputs(known, events, config.events, as_of, days).collect()
    return {row["user_id"]: row.asDict() for row in rows}


def test_prompts_tell_the_newest_clicks_of_the_window_and_nothing_after_the_training_period(spark):
    events = log(spark)
    found = inputs(spark, events)
    assert found["u"]["history"] == ["i3", "i4", "i5"]
    assert found["u"]["told"] == "age 21, sex F"
    assert found["u"]["activity"] == [3, 3, 1]  # 4 days, 4 clicks, 1 purchase: bits
    assert (found["nobody"]["history"], found["nobody"]["told"], found["nobody"]["activity"]) == ([], "", [0, 0, 0])
    assert inputs(spark, log(spark, later=True)) == found
    assert inputs(spark, events, days=4)["u"]["history"] == ["i4", "i5"]
    earlier = inputs(spark, events, TRAIN_END - timedelta(days=1), None)["u"]
    assert (earlier["history"], earlier["activity"]) == (["i2", "i3", "i4"], [3, 3, 0])


# whole nights


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return tiny_qwen(tmp_path_factory.mktemp("model") / "qwen2", "qwen2_vl")


def context_of(spark, root: Path, model: Path, *overrides: str, ds: date = DS) -> Context:
    lake = Lake(spark, str(root))
    prompt = (
        f"encoder.model={model}",
        "encoder.family=qwen_vl",
        "alignment.held_out_share=0.3",
        "interest.model=prompt",
        "interest.prompt.max_tokens=400",
        "interest.prompt.epochs=1",
        "interest.prompt.rank=2",
        "interest.min_variance_ratio=0.0001",
    )
    return Context(spark, lake, small_config(lake.root, *prompt, *overrides), ds, "run")


@pytest.fixture(scope="module")
def finished(spark, model, tmp_path_factory) -> Iterator[tuple[Path, list[str]]]:
    root = tmp_path_factory.mktemp("prompt") / "lake"
    ctx = context_of(spark, root, model)
    write_shop(ctx.lake)
    random = np.random.default_rng(2)  # titles that say nothing of who clicks together: there is something to align
    items = [item_id(g, n) for g in range(GROUPS) for n in range(PER_GROUP)]
    write_items(ctx.lake, {item: " ".join(random.choice(NOISE, 6)) for item in items})
    yield root, align.run(ctx).notes + embed.run(ctx).notes


@pytest.fixture
def shop(finished, lake) -> Lake:
    shutil.copytree(finished[0], lake.root)
    return lake


def rows_of(lake: Lake) -> dict[str, dict]:
    encoder = current(lake, "user", DS)
    rows = lake.read("content.user_embeddings").where(F.col("revision") == encoder.revision).collect()
    return {row["user_id"]: row.asDict() for row in rows}


@pytest.mark.night
def test_a_night_embeds_everybody_there_is_something_to_say_about_and_says_why_not(shop, finished):
    user = current(shop, "user", DS)
    assert user.revision.startswith("qwen_vl-prompt-")
    for measure in ("recall_interest", "recall_mean_pooled", "recall_transformer", "variance_ratio"):
        assert 0 <= user.metrics[measure] <= 1 or measure == "variance_ratio"
    found = rows_of(shop)
    assert found["nobody"]["vector"] is None
    assert found["nobody"]["error"] == f"neither clicks in the 30 days up to {TRAIN_END} nor a profile"
    given = np.array([row["vector"] for name, row in found.items() if name != "nobody"])
    np.testing.assert_allclose(np.linalg.norm(given, axis=1), 1, atol=1e-5)
    assert (found["u00"]["clicks"], found["profile_only"]["clicks"]) == (4, 0)
    for said in ("of the transformer 0.", "mean of clicks 0.", "of that of items", "1 have neither", "tokens/s"):
        assert any(said in note for note in finished[1]), said


@pytest.mark.night
def test_the_next_night_trains_nothing_and_embeds_only_users_whose_prompt_has_changed(spark, shop, model):
    before = rows_of(shop)
    late = ("u00", "g1n1", datetime(2024, 1, 26, 12))  # enters the training period with the next day
    write_events(shop, [*clicks_in_groups(), late])
    ctx = context_of(spark, Path(shop.root), model, "interest.prompt.titles=true", ds=date(2024, 2, 1))
    notes = align.run(ctx).notes + embed.run(ctx).notes
    assert sum("is used again" in note for note in notes) == 2
    after = rows_of(shop)
    assert {name for name, row in after.items() if row["vector"] != before[name]["vector"]} == {"u00"}


@pytest.mark.night
def test_events_after_the_training_period_change_no_model_and_no_vector(spark, shop, model):
    before, revision = rows_of(shop), current(shop, "user", DS).revision
    leak = [(f"u{n:02d}", f"g{(n + 1) % 5}n{n % 8}", AFTER + timedelta(hours=n)) for n in range(60)]
    write_events(shop, [*clicks_in_groups(), *leak])
    model_folder(shop, revision).rename(model_folder(shop, "gone"))  # so that it must be trained again
    ctx = context_of(spark, Path(shop.root), model)
    notes = align.run(ctx).notes + embed.run(ctx).notes
    assert any("user encoder" in note and "recall@" in note for note in notes)
    assert current(shop, "user", DS).revision == revision
    assert rows_of(shop) == before


@pytest.mark.night
def test_training_and_embedding_read_the_same_prompt(spark, shop, model):
    ctx = context_of(spark, Path(shop.root), model)
    item = current(shop, "item", DS)
    told = prompt_data(ctx, item, ProjectionHead.load(model_folder(shop, item.revision)))
    config = ctx.config.interest
    events = shop.read("bronze.events")
    users = user_inputs(
        shop.read("bronze.users"),
        positives_until(events, TRAIN_END, config.events),
        item_vectors(ctx, item.revision),
        config,
    )
    rows = prompt_inputs(users, events, config.events, TRAIN_END, config.days).orderBy("user_id").collect()
    known = [row for row in rows if len(row["history"]) >= 2]
    titles = {row["item_id"]: f"{row['category'][-1]} > {row['title']}" for row in shop.read("bronze.items").collect()}
    assert len(known) == len(told.days)
    for user, row in enumerate(known):
        prompt = told.prompt(user)
        assert prompt.labels == [titles[item_id] for item_id in row["history"]]
        assert (prompt.profile, prompt.activity) == (row["told"], row["activity"])


@pytest.mark.night
def test_another_language_model_under_the_same_name_is_refused(spark, shop, model, tmp_path):
    user = current(shop, "user", DS)
    other = tiny_qwen(tmp_path / "other", "qwen2_vl", seed=5)

    ctx = context_of(spark, Path(shop.root), other)
    with pytest.raises(MissingInput, match=r"whose language model is not that of the configured encoder"):
        embed_users(ctx, user, encoder_spec(ctx.config.encoder))


@pytest.mark.night
def test_a_collapsed_prompt_model_is_rejected_and_the_one_in_use_stays(spark, shop, model):
    good = current(shop, "user", DS).revision
    ctx = context_of(spark, Path(shop.root), model, "interest.min_variance_ratio=50.0")
    with pytest.raises(HealthGateError, match=r"user encoder qwen_vl-prompt-\w+ rejected: .* collapsed"):
        align.run(replace(ctx))
    assert current(shop, "user", DS).revision == good
