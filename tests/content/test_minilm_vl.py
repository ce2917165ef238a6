"""The real encoder, with its real weights."""

from __future__ import annotations

import os

import numpy as np
import pytest

from akt_spark.config import EncoderConfig
from akt_spark.content.encoders import encoder_spec, minilm_vl
from akt_spark.content.encoders.minilm_vl import MiniLMVL, MiniLMVLSpec
from akt_spark.errors import ConfigError
from content.pictures import BLUE, BROKEN, RED

SHORT = "Title: Red shoe"


@pytest.fixture(scope="module")
def encoder() -> MiniLMVL:
    return MiniLMVLSpec(image_size=64, max_tokens=32).load("cpu")


def alone(encoder: MiniLMVL, text: str, image: bytes | None = None) -> np.ndarray:
    return encoder.encode([text], [image]).vectors[0]


def test_the_image_matters_and_so_does_its_content(encoder):
    red, blue, none = alone(encoder, SHORT, RED), alone(encoder, SHORT, BLUE), alone(encoder, SHORT)
    assert none @ red < 0.99
    assert red @ blue < 0.9999


def test_what_was_seen_of_images_once_takes_their_place(encoder, monkeypatch):
    texts, images = [SHORT] * 4, [RED, None, BROKEN["a PNG cut off"], BLUE]
    expected = encoder.encode(texts, images).vectors
    seen = encoder.seen_once(images)
    monkeypatch.setattr(encoder, "vision", None)  # nobody looks again
    np.testing.assert_allclose(encoder.encode(texts, seen).vectors, expected, atol=1e-6)


def test_a_backbone_of_other_bytes_is_not_opened_whatever_its_name(monkeypatch, tmp_path):
    other = tmp_path / minilm_vl.BACKBONE_HASH  # caches name files by their hash, and link to them
    other.write_bytes(b"whatever")
    link = tmp_path / "weights.pth"
    link.symlink_to(other)
    monkeypatch.setattr(minilm_vl, "_backbone_weights", lambda: link)
    with pytest.raises(ConfigError, match=r"weights\.pth has the SHA-256"):
        MiniLMVLSpec().load("cpu")


def test_related_texts_are_nearer_than_unrelated_ones(encoder):
    shoe, boot, film = (alone(encoder, f"Title: {t}") for t in ("running shoe", "leather boot", "a horror film"))
    assert shoe @ boot > shoe @ film + 0.1


def test_long_texts_are_cut_and_flagged(encoder):
    result = encoder.encode([SHORT, "word " * 100], [None, None])
    assert result.truncated.tolist() == [False, True]
    assert result.n_tokens.tolist() == [6, 32]  # [CLS] title : red shoe [SEP]


def test_the_revision_changes_with_what_changes_a_vector_and_with_nothing_else():
    def revision(**config: object) -> str:
        return encoder_spec(EncoderConfig(**config)).revision

    assert revision() == revision(batch_size=7, rows_per_task=9) == MiniLMVLSpec().revision
    assert revision(use_images=False) == revision(use_images=False, image_size=64)  # no image, no pixels
    changing = ({}, {"image_size": 64}, {"max_tokens": 8}, {"use_images": False}, {"dtype": "bfloat16"})
    assert len({revision(**keys) for keys in changing}) == len(changing)
    assert revision() == revision(dtype="float32", device="cpu", batch_tokens=9, commit_rows=9, gpus_per_task=0.0)


def test_bfloat16_gives_nearly_the_same_vectors(encoder):
    rounded = MiniLMVLSpec(image_size=64, max_tokens=32, dtype="bfloat16").load("cpu")
    result = rounded.encode([SHORT], [RED]).vectors
    assert result.dtype == np.float32
    assert 0.99 < result[0] @ alone(encoder, SHORT, RED) < 0.999999


def test_lengths_count_text_and_image_tokens(encoder):
    assert encoder.lengths([SHORT, SHORT, "word " * 100], [None, RED, None]).tolist() == [6, 11, 32]


def test_nothing_can_be_fetched():
    assert os.environ["HF_HUB_OFFLINE"] == "1"
