"""What one worker does with its rows, without Spark."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest

from akt_spark.config import EncoderConfig
from akt_spark.content import workers
from akt_spark.content.arrow import vectors_from_arrow, vectors_to_arrow
from akt_spark.content.model_pool import end_idle_models
from akt_spark.content.model_process import PackedSpec
from akt_spark.content.throughput import Work
from akt_spark.content.workers import embed_items, loaded_once


class Total(list):
    """Stands for Spark's accumulator."""

    add = list.append


@pytest.fixture
def forgetful(monkeypatch) -> Iterator[None]:
    """No models of other tests; none left over."""
    monkeypatch.setattr(workers, "_loaded", {})
    yield
    end_idle_models()


def arrow(titles: list[str], image: bytes | None = None) -> pa.RecordBatch:
    columns = {"item_id": [f"id of {title}" for title in titles], "content_hash": titles, "title": titles}
    for name in ("description", "brand"):
        columns[name] = [None] * len(titles)
    return pa.RecordBatch.from_pydict(
        {name: pa.array(values, pa.string()) for name, values in columns.items()}
        | {
            "category": pa.array([["kind"]] * len(titles), pa.list_(pa.string())),
            "price": pa.array([None] * len(titles), pa.float64()),
            "image": pa.array([image] * len(titles), pa.binary()),
        }
    )


def embed(spec, batches: list[pa.RecordBatch]) -> tuple[list[pa.RecordBatch], Work]:
    total = Total()
    found = list(embed_items(iter(batches), PackedSpec.of(spec), EncoderConfig(batch_size=2), 60.0, total))
    return found, total[0]


def test_rows_of_a_whole_task_are_sorted_together_and_come_back_by_id(spec, forgetful):
    found, work = embed(spec, [arrow(["one two three four", "b"]), arrow([]), arrow(["c", "five six seven eight"])])
    assert [text.split(": ")[1] for text in spec.notes("encoded")] == [
        "b. Category",
        "c. Category",
        "five six seven eight. Category",
        "one two three four. Category",
    ]
    (batch,) = found
    assert batch.column("content_hash").to_pylist() == ["b", "c", "five six seven eight", "one two three four"]
    assert (work.rows, work.loads, len(work.workers), work.padding) == (4, 1, 1, 0.0)
    assert 0 < work.model_seconds < work.seconds


def test_the_order_in_which_a_shuffle_hands_rows_over_changes_nothing(spec, forgetful):
    rows = [arrow([title]) for title in ("b b", "a a", "c c")]
    (one,), _ = embed(spec, rows)
    (other,), _ = embed(spec, rows[::-1])
    assert one.equals(other)


def test_memory_is_bounded_by_windows_and_a_window_has_at_least_one_batch(spec, forgetful, monkeypatch):
    monkeypatch.setattr(workers, "WINDOW_BYTES", 3000)
    found, _ = embed(spec, [arrow([name], image=b"x" * 1000) for name in "abcde"] + [arrow(["f"], image=b"x" * 9000)])
    assert [batch.num_rows for batch in found] == [2, 2, 1, 1]


def test_a_model_is_loaded_once_however_many_tasks_run(spec, forgetful):
    for _ in range(3):
        embed(spec, [arrow(["a"])])
    assert len(spec.notes("loads")) == 1


def test_a_model_is_loaded_once_for_a_revision_and_device(spec, forgetful):
    for device in ("cpu", "cpu", "cuda:1", "cuda:1"):
        loaded_once(spec.revision, device, lambda device=device: spec.load(device))
    assert [line.split()[1] for line in spec.notes("loads")] == ["cpu", "cuda:1"]


@pytest.mark.parametrize("missing", [None, np.array([False, True, False])])
def test_vectors_survive_arrow(missing):
    vectors = np.arange(12, dtype=np.float32).reshape(3, 4)
    column = vectors_to_arrow(vectors, missing)
    assert column.null_count == (0 if missing is None else 1)
    kept = column.drop_null()
    np.testing.assert_array_equal(vectors_from_arrow(kept, 4), vectors if missing is None else vectors[[0, 2]])
    np.testing.assert_array_equal(vectors_from_arrow(pa.chunked_array([column.slice(2)]), 4), vectors[2:])
