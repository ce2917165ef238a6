"""The stages with a tuned encoder: a tiny Qwen-VL that reads statistics, aligned on a small shop."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import functions as F

from akt_spark.content import align, embed, registry
from akt_spark.content.alignment import Alignment
from akt_spark.content.encoders import encoder_spec
from akt_spark.content.reading import reading_spec
from akt_spark.errors import HealthGateError, MissingInput
from akt_spark.lake import Lake
from akt_spark.stage import Context
from content.conftest import DS, GROUPS, PER_GROUP, TRAIN_END, clicks_in_groups, item_id, small_config, write_users
from content.test_tuning import NOISE
from content.tiny_qwen import WIDTH, tiny_qwen

pytestmark = pytest.mark.night  # whole nights

WORDS = ("red", "shoe", "story", "help", "Title")
CONFIG = (
    "encoder.family=qwen_vl",
    "alignment.method=lora",
    "alignment.statistics=true",
    "alignment.epochs=12",
    "alignment.lora.epochs=12",
    "alignment.patience=12",
    "alignment.held_out_share=0.3",
    "alignment.lora.rank=4",
    "alignment.lora.learning_rate=0.01",
    "alignment.lora.checkpoint_steps=1",
)


def write_catalogue(lake: Lake, more: dict[str, str] | None = None) -> None:
    rng = np.random.default_rng(2)
    titles = {
        item_id(g, n): f"{' '.join(rng.choice(NOISE, 3))} {WORDS[g]} {' '.join(rng.choice(NOISE, 2))}"
        for g in range(GROUPS)
        for n in range(PER_GROUP)
    } | (more or {})
    rows = [(item, title, None, None, None, None, None, None, None, f"hash {title}") for item, title in titles.items()]
    lake.overwrite("bronze.items", lake.spark.createDataFrame(rows, lake.schema("bronze.items")))


def write_log(lake: Lake, later: int = 0) -> None:
    """Clicks, and twelve impressions of every item before; later: as many of g0n0 after the training period."""
    rows = [(f"{u}-{i}-{at:%m%d%H}", u, i, "click", at, None, None, at.date()) for u, i, at in clicks_in_groups()]
    start = datetime(2024, 1, 2)
    for item in {row[2] for row in rows}:
        rows += [(f"s{item}{n}", "u00", item, "impression", start, None, None, start.date()) for n in range(12)]
    after = datetime.combine(TRAIN_END + timedelta(days=1), datetime.min.time())
    rows += [(f"late{n}", "u01", "g0n0", "impression", after, None, None, after.date()) for n in range(later)]
    lake.overwrite("bronze.events", lake.spark.createDataFrame(rows, lake.schema("bronze.events")))


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return tiny_qwen(tmp_path_factory.mktemp("model") / "qwen2", "qwen2_vl")


def context_of(spark, root: Path, model: Path, *overrides: str, ds: date = DS) -> Context:
    lake = Lake(spark, str(root))
    return Context(spark, lake, small_config(lake.root, f"encoder.model={model}", *CONFIG, *overrides), ds, "run")


@pytest.fixture(scope="module")
def finished(spark, model, tmp_path_factory) -> Iterator[tuple[Path, list[str]]]:
    root = tmp_path_factory.mktemp("tuned") / "lake"
    ctx = context_of(spark, root, model)
    write_catalogue(ctx.lake)
    write_log(ctx.lake)
    write_users(ctx.lake, {f"u{user:02d}": {} for user in range(60)})
    yield root, align.run(ctx).notes + embed.run(ctx).notes


@pytest.fixture
def shop(finished, spark, model, lake) -> Context:
    shutil.copytree(finished[0], lake.root)
    return context_of(spark, Path(lake.root), model)


def tuned_of(ctx: Context) -> registry.EncoderRecord:
    return registry.tuned(ctx.lake, registry.current(ctx.lake, "item", DS).base_revision)


def vectors(ctx: Context, revision: str) -> dict[str, list[float]]:
    rows = ctx.lake.read("content.item_embeddings").where(F.col("revision") == revision).collect()
    return {row["item_id"]: row["vector"] for row in rows}


def test_a_tuned_encoder_stands_between_the_raw_one_and_the_head(shop, finished):
    item, tuned, raw = registry.current(shop.lake, "item", DS), tuned_of(shop), encoder_spec(shop.config.encoder)
    assert (tuned.stage, tuned.base_revision, tuned.trained_until) == ("tuned", raw.revision, TRAIN_END)
    assert item.metrics["recall_aligned"] > item.metrics["recall_raw"]
    assert {"recall_head", "coverage_head", "coverage_mid", "coverage_tail"} <= item.metrics.keys()
    of_tuned, of_raw = vectors(shop, tuned.revision), vectors(shop, raw.revision)
    assert of_tuned.keys() == of_raw.keys() == vectors(shop, item.revision).keys()
    assert {len(vector) for vector in of_tuned.values()} == {WIDTH}
    assert max(np.abs(np.subtract(of_tuned[i], of_raw[i])).max() for i in of_raw) > 1e-3
    rows = shop.lake.read("content.item_embeddings").groupBy("revision").agg(F.max("as_of").alias("as_of")).collect()
    known = {row["revision"]: row["as_of"] for row in rows}
    assert known == {raw.revision: None, tuned.revision: TRAIN_END, item.revision: TRAIN_END}
    assert any("raw, 0." in note and "with a head alone" in note and "tuned" in note for note in finished[1])
    files = {path.name for path in Path(tuned.path).iterdir()}
    assert files == {"weights.safetensors", "model.json", "statistics"}
    assert not any(shop.lake.artifact("alignments", "item").iterdir())


def test_the_next_night_encodes_new_items_with_the_tuned_encoder_alone(shop, spark, model):
    tuned = tuned_of(shop)
    before = vectors(shop, tuned.revision)
    write_catalogue(shop.lake, {"new": "red shoe"})
    ctx = context_of(spark, Path(shop.lake.root), model, ds=date(2024, 2, 1))
    notes = align.run(ctx).notes + embed.run(ctx).notes
    assert sum("is used again" in note for note in notes) == 2
    after = vectors(ctx, tuned.revision)
    assert after.pop("new") is not None
    assert after == before
    assert "new" in vectors(ctx, registry.current_revision(ctx.lake, "item", ctx.ds))
    assert "new" not in vectors(ctx, tuned.base_revision)


def test_events_after_the_training_period_change_no_prompt_and_no_encoder(shop):
    before, tuned = registry.current(shop.lake, "item", DS), tuned_of(shop)
    write_log(shop.lake, later=500)
    shutil.rmtree(registry.model_folder(shop.lake, tuned.revision))  # it must be trained again, now on the changed log
    assert not any("item encoder" in note and "used again" in note for note in align.run(shop).notes)
    assert registry.current(shop.lake, "item", DS).revision == before.revision
    assert tuned_of(shop).revision == tuned.revision  # it hashes statistics and weights


def test_a_killed_training_goes_on_where_it_was(shop, monkeypatch):
    before = registry.current(shop.lake, "item", DS).revision
    shutil.rmtree(registry.model_folder(shop.lake, before))
    step, steps = Alignment._step, []

    def counted(self, batches, epoch, number):
        if self.tuned and len(steps) == 4:
            raise KeyboardInterrupt
        steps.extend([(epoch, number)] if self.tuned else [])
        return step(self, batches, epoch, number)

    monkeypatch.setattr(Alignment, "_step", counted)
    with pytest.raises(KeyboardInterrupt):
        align.run(shop)
    first = list(steps)
    steps[:] = [None] * 100
    align.run(shop)
    assert steps[100] not in first
    assert registry.current(shop.lake, "item", DS).revision == before


def test_a_tuned_encoder_that_finds_less_is_refused_and_what_is_in_use_stays(shop, spark, model, monkeypatch):
    before = registry.current(shop.lake, "item", DS)
    monkeypatch.setattr(Alignment, "_recall", lambda self, vectors, pairs: 0.25)
    with pytest.raises(
        HealthGateError, match=r"rejected: recall@7 of held-out pairs 0.250 raw, 0.250 with a head alon"
    ):
        align.run(context_of(spark, Path(shop.lake.root), model, "alignment.lora.epochs=2"))
    rejected = shop.lake.read("content.encoders").where("status = 'rejected'").collect()
    assert sorted((row["stage"], row["path"]) for row in rejected) == [("aligned", None), ("tuned", None)]
    assert registry.current(shop.lake, "item", DS) == before
    assert {path.name for path in shop.lake.artifact("encoders").glob("*tuned*")} == {before.base_revision}


def test_a_tuned_encoder_whose_folder_is_gone_is_named(shop):
    item, tuned = registry.current(shop.lake, "item", DS), tuned_of(shop)
    shutil.rmtree(registry.model_folder(shop.lake, tuned.revision))
    with pytest.raises(MissingInput, match=r"run jobs/align_encoder\.py"):
        reading_spec(shop.lake, item, encoder_spec(shop.config.encoder))
