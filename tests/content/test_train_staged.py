"""A staged alignment trained in this process and in a Spark task."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save

import akt_spark.content.train_staged as train_staged_module
from akt_spark.content.staged import ABOUT, HEAD, ITEMS, PAIRS, TUNED
from akt_spark.content.train_staged import CatalogueItems, train_folder, train_staged
from content.conftest import small_config
from content.test_qwen_vl import BLUE, RED
from content.test_tuning import TEXTS
from content.test_tuning import data as data
from content.test_tuning import spec as spec

OVERRIDES = (
    "alignment.method=lora",
    "alignment.epochs=2",
    "alignment.lora.epochs=2",
    "alignment.hidden=32",
    "alignment.lora.rank=2",
    "alignment.lora.micro_batch=40",
    "alignment.recall_at=10",
)


def staged(folder: Path, data) -> Path:
    """The folder as the driver writes it, its items in two files and in another order than their ids."""
    (folder / ITEMS).mkdir(parents=True)
    (folder / PAIRS).write_bytes(save(vars(data)))
    (folder / ABOUT).write_text(json.dumps({"base": "raw", "trained_until": "2024-01-25", "statistics": None}))
    rows = [
        {"item_id": f"i{n:02d}", "title": text, "category": [], "brand": None, "price": None, "description": None}
        | {"image": RED if n == 3 else BLUE if n == 4 else None}
        for n, text in enumerate(TEXTS)
    ][::-1]
    fields = "item_id title brand description".split()
    types = {name: pa.string() for name in fields} | {"category": pa.list_(pa.string()), "price": pa.float64()}
    schema = pa.schema([*types.items(), ("image", pa.binary())])
    for part in (0, 1):
        pq.write_table(pa.Table.from_pylist(rows[part::2], schema=schema), folder / ITEMS / f"part-{part}.parquet")
    return folder


@pytest.fixture
def tiny(spec, tmp_path):
    """A configuration, and the tiny model's spec under it."""
    return small_config(
        str(tmp_path / "lake"), "encoder.family=qwen_vl", f"encoder.model={spec.folder}", *OVERRIDES
    ), spec


def test_staged_items_stand_in_the_order_of_their_ids(data, tmp_path):
    items = CatalogueItems.read(staged(tmp_path / "one", data) / ITEMS)
    assert items.texts == [f"Title: {text}" for text in TEXTS]
    assert items.images([4, 0, 3]) == [BLUE, None, RED]


@pytest.mark.night
def test_a_task_trains_the_same_weights_as_the_driver(tiny, data, context, tmp_path, monkeypatch):
    config, spec = tiny
    driver, task = (staged(tmp_path / name, data) for name in ("driver", "task"))
    expected = train_folder(driver, spec, config)
    on_executor = config.model_copy(update={"alignment": config.alignment.model_copy(update={"run_on": "executor"})})
    with monkeypatch.context() as patch:  # of this process; a task's has the function itself
        patch.setattr(train_staged_module, "train_folder", lambda *_: pytest.fail("trained on the driver"))
        assert train_staged(replace(context, config=on_executor), task, spec) == expected
    assert set(expected) >= {"recall_raw", "recall_head", "recall_aligned"}
    for model in (HEAD, TUNED):
        for file in ("weights.safetensors", "model.json"):
            assert (task / model / file).read_bytes() == (driver / model / file).read_bytes()
