"""What one worker does with its rows, without Spark."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from akt_spark.content import workers
from akt_spark.content.arrow import vectors_from_arrow, vectors_to_arrow
from akt_spark.content.workers import encode_rows, loaded_once


def test_a_failing_row_gets_its_error_and_its_batch_its_vectors(spec):
    texts = ["one", "poison pill", "three words here", "four"]
    result = encode_rows(spec.load("cpu"), texts, [None] * 4, batch_size=4, batch_tokens=100)
    assert [error is not None for error in result.errors] == [False, True, False, False]
    assert result.errors[1] == "ValueError: cannot read 'poison pill'"
    expected = spec.load("cpu").encode(["one", "three words here", "four"], [None] * 3).vectors
    np.testing.assert_array_equal(result.vectors[[0, 2, 3]], expected)


def test_results_keep_the_order_of_rows_though_batches_are_sorted_by_length(spec):
    texts = ["a long text of many words", "b", "a middling text", "c"]
    result = encode_rows(spec.load("cpu"), texts, [None, b"x", None, b"x"], batch_size=2, batch_tokens=100)
    assert spec.notes("encoded") == ["b", "c", "a middling text", "a long text of many words"]
    np.testing.assert_array_equal(result.vectors, spec.load("cpu").encode(texts, [None] * 4).vectors)
    assert result.image_missing.tolist() == [True, False, True, False]
    assert result.n_tokens.tolist() == [6, 1, 3, 1]


def test_a_vector_that_is_not_finite_is_an_error(spec, monkeypatch):
    encoder = spec.load("cpu")
    encode = encoder.encode

    def broken(texts, images):
        result = encode(texts, images)
        result.vectors[[text == "bad" for text in texts]] = np.nan
        return result

    monkeypatch.setattr(encoder, "encode", broken)
    result = encode_rows(encoder, ["good", "bad"], [None, None], batch_size=2, batch_tokens=100)
    assert result.errors == [None, "the encoder returned a vector that is not finite"]
    assert np.isfinite(result.vectors).all()


def test_a_model_is_loaded_once_for_a_revision_and_device(spec, monkeypatch):
    monkeypatch.setattr(workers, "_loaded", {})
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
