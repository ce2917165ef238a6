"""Rows through an encoder in one process, without Spark."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import numpy as np
import pytest

from akt_spark.content.ahead import ahead
from akt_spark.content.encoding import Rows, encode_rows
from akt_spark.content.results import EncodedRows
from content.fakes import FakeEncoder, FakeSpec


def encoded(encoder: FakeEncoder, texts: Sequence[str], images: Sequence[bytes | None] | None = None) -> EncodedRows:
    result = EncodedRows.empty(len(texts), encoder.dim)
    for part in encode_rows(encoder, Rows(texts, images or [None] * len(texts)), batch_size=4, batch_tokens=100):
        result.fail(part.rows, part.error) if part.encoded is None else result.put(part.rows, part.encoded)
    return result


def test_a_failing_row_gets_its_error_and_its_batch_its_vectors(spec):
    texts = ["one word", "poison pill", "two words", "four five"]
    result = encoded(spec.load("cpu"), texts)
    assert result.errors == [None, "ValueError: cannot read 'poison pill'", None, None]
    expected = spec.load("cpu").encode(["one word", "two words", "four five"], [None] * 3).vectors
    np.testing.assert_array_equal(result.vectors[[0, 2, 3]], expected)


def test_results_keep_the_order_of_rows_though_batches_are_sorted_by_length_and_image(spec):
    texts = ["a long text of many words", "b", "a middling text", "c"]
    result = encoded(spec.load("cpu"), texts, [None, b"x", None, b"x"])
    assert spec.notes("encoded") == ["a middling text", "a long text of many words", "b", "c"]
    np.testing.assert_array_equal(result.vectors, spec.load("cpu").encode(texts, [None] * 4).vectors)
    assert result.image_missing.tolist() == [True, False, True, False]
    assert result.n_tokens.tolist() == [6, 1, 3, 1]


def test_the_next_batch_is_read_while_the_model_computes(spec, monkeypatch):
    encoder, second = spec.load("cpu"), threading.Event()
    read, compute, waited = encoder.prepare, encoder.forward, []

    def noted(texts, images):
        if "second" in texts:
            second.set()
        return read(texts, images)

    def waiting(prepared):
        waited.append(second.wait(timeout=20))
        return compute(prepared)

    monkeypatch.setattr(encoder, "prepare", noted)
    monkeypatch.setattr(encoder, "forward", waiting)
    assert encoded(encoder, ["first", "second"], [None, b"x"]).errors == [None, None]  # two batches: one has photos
    assert waited == [True, True]


def test_a_vector_that_is_not_finite_is_an_error(spec, monkeypatch):
    encoder = spec.load("cpu")
    forward = encoder.forward

    def broken(prepared):
        result = forward(prepared)
        result.vectors[[text == "bad" for text in prepared.texts]] = np.nan
        return result

    monkeypatch.setattr(encoder, "forward", broken)
    result = encoded(encoder, ["good", "bad"])
    assert result.errors == [None, "the encoder returned a vector that is not finite"]
    assert np.isfinite(result.vectors).all()


@pytest.mark.parametrize("step", ["lengths", "prepare"])
def test_a_row_that_cannot_be_tokenised_or_decoded_gets_its_error_too(spec, monkeypatch, step):
    encoder = spec.load("cpu")
    read = getattr(encoder, step)

    def strict(texts, images):
        if "bad" in texts:
            raise UnicodeError("no text")
        return read(texts, images)

    monkeypatch.setattr(encoder, step, strict)
    if step == "lengths":  # `prepare` calls it
        assert encoded(encoder, ["bad"]).errors == ["UnicodeError: no text"]
    assert encoded(encoder, ["good", "bad", "fine"]).errors == [None, "UnicodeError: no text", None]


def test_a_lost_device_is_no_error_of_a_row(spec, monkeypatch):
    encoder = spec.load("cpu")
    monkeypatch.setattr(
        encoder, "forward", lambda batch: (_ for _ in ()).throw(RuntimeError("CUDA error: unspecified"))
    )
    with pytest.raises(RuntimeError, match="CUDA error"):
        encoded(encoder, ["a", "b"])


@pytest.mark.parametrize("sigma", [0.4, 0.8])
def test_at_most_a_twentieth_of_what_the_model_reads_is_padding_on_a_log_normal_mix(spec, sigma):
    draw = np.random.default_rng(3)
    lengths = np.clip(draw.lognormal(3.3, sigma, 4096), 1, 512).astype(int)
    texts = ["w " * length for length in lengths]
    images = [b"x" if chosen else None for chosen in draw.random(len(texts)) < 0.5]
    parts = list(
        encode_rows(FakeEncoder(QuietSpec(spec.folder)), Rows(texts, images), batch_size=64, batch_tokens=8192)
    )
    read, padded = (sum(getattr(part, name) for part in parts) for name in ("tokens", "padded_tokens"))
    assert read == lengths.sum()
    assert 1 - read / padded <= 0.05
    assert len(texts) / len(parts) > 16  # not by tiny batches
    unsorted = [lengths[start : start + 64] for start in range(0, len(lengths), 64)]
    assert 1 - lengths.sum() / sum(len(batch) * batch.max() for batch in unsorted) > 0.4  # what there is to waste


class QuietSpec(FakeSpec):
    """Notes nothing: thousands of long texts."""

    def _note(self, name: str, line: str) -> None:
        pass


def test_the_next_batches_are_read_while_the_model_computes_and_not_more_than_so_many():
    read, release = [], threading.Event()
    found = ahead(lambda item: read.append(item) or item, iter(range(10)), depth=2)
    item, future = next(found)
    assert (item, future.result()) == (0, 0)
    deadline = time.monotonic() + 5
    while len(read) < 3 and time.monotonic() < deadline:  # nobody asks for them
        release.wait(0.01)
    release.wait(0.05)
    assert read == [0, 1, 2]
    assert [future.result() for _, future in found] == list(range(1, 10))


def test_an_exception_while_reading_ahead_waits_for_its_batch():
    found = ahead(lambda item: 1 // item, [1, 0, 1], depth=2)
    results = [future.exception() or future.result() for _, future in found]
    assert [type(result) for result in results] == [int, ZeroDivisionError, int]
