"""The catalogue with a tiny Qwen3-VL on Spark's workers, and photos of which some are broken."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import functions as F

from akt_spark.config import Config
from akt_spark.content import align
from akt_spark.content.encoders import encoder_spec
from akt_spark.content.items import embed_catalogue
from akt_spark.content.prompts import item_prompt
from akt_spark.errors import ConfigError
from akt_spark.lake import Lake
from akt_spark.stage import Context
from content.conftest import DS, GROUPS, PER_GROUP, item_id, small_config
from content.pictures import BLUE, BROKEN, RED
from content.tiny_qwen import WIDTH, tiny_qwen

ITEMS = [item_id(group, number) for group in range(GROUPS) for number in range(PER_GROUP)]
PHOTOS = {"g0n0": RED, "g0n1": BLUE, "g0n2": BROKEN["a PNG cut off"], "g1n0": BROKEN["empty"], "g1n1": BROKEN["a bomb"]}
TITLES = {item: f"thing {item}" for item in ITEMS} | {"g2n2": "story " * 200, "g3n3": "<|image_pad|>"}


def write_photos(lake: Lake) -> None:
    rows = []
    for item in ITEMS:
        photo = PHOTOS.get(item)
        digest = hashlib.sha256(f"{TITLES[item]} {photo}".encode()).hexdigest()
        rows.append((item, TITLES[item], None, [f"kind {item[:2]}"], None, None, None, photo, None, digest))
    lake.overwrite("bronze.items", lake.spark.createDataFrame(rows, lake.schema("bronze.items")))


pytestmark = pytest.mark.night  # a Spark session's worth of tiny models


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return tiny_qwen(tmp_path_factory.mktemp("model") / "qwen3", "qwen3_vl")


def qwen_config(root: str, model: Path) -> Config:
    """The family, in several small batches a task."""
    return small_config(
        root, "encoder.family=qwen_vl", f"encoder.model={model}", "encoder.max_pixels=4096", "encoder.batch_tokens=300"
    )


@pytest.fixture(scope="module")
def embedded(spark, model, tmp_path_factory) -> Context:
    """After the catalogue was embedded."""
    lake = Lake(spark, str(tmp_path_factory.mktemp("shop") / "lake"))
    write_photos(lake)
    ctx = Context(spark, lake, qwen_config(lake.root, model), DS, "run")
    embed_catalogue(ctx, encoder_spec(ctx.config.encoder))
    return ctx


def stored(ctx: Context, revision: str) -> dict:
    rows = ctx.lake.read("content.item_embeddings").where(F.col("revision") == revision).collect()
    return {row["item_id"]: row for row in rows}


def test_workers_give_the_vectors_that_the_encoder_gives_here(embedded):
    spec = encoder_spec(embedded.config.encoder)
    rows = stored(embedded, spec.revision)
    assert sorted(rows) == sorted(ITEMS)
    assert {row["error"] for row in rows.values()} == {None}
    texts = [item_prompt(TITLES[item], [f"kind {item[:2]}"]) for item in ITEMS]
    expected = spec.load("cpu").encode(texts, [PHOTOS.get(item) for item in ITEMS]).vectors
    found = np.array([rows[item]["vector"] for item in ITEMS])
    assert found.shape == (len(ITEMS), WIDTH)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_broken_photos_and_long_texts_are_flagged(embedded):
    rows = stored(embedded, encoder_spec(embedded.config.encoder).revision)
    assert {item for item, row in rows.items() if row["image_corrupt"]} == {"g0n2", "g1n0", "g1n1"}
    assert {item for item, row in rows.items() if row["image_missing"]} == set(ITEMS) - set(PHOTOS)
    assert {item for item, row in rows.items() if row["truncated"]} == {"g2n2"}
    assert rows["g2n2"]["n_tokens"] == embedded.config.encoder.max_tokens


def test_a_moved_folder_is_the_same_encoder_and_other_weights_in_it_are_another(embedded, tmp_path):
    folder = shutil.copytree(embedded.config.encoder.model, tmp_path / "model")
    moved = qwen_config(embedded.lake.root, folder)
    assert encoder_spec(moved.encoder).revision == encoder_spec(embedded.config.encoder).revision
    tiny_qwen(folder, "qwen3_vl", seed=1)
    assert not stored(embedded, encoder_spec(moved.encoder).revision)


def test_a_model_that_is_not_there_ends_the_stage_with_its_name(embedded):
    with pytest.raises(ConfigError, match=r"encoder.model nowhere is neither a folder"):
        align.run(replace(embedded, config=qwen_config(embedded.lake.root, Path("nowhere"))))
