"""The real encoder, with its real weights."""

from __future__ import annotations

import io
import os

import numpy as np
import pytest
from PIL import Image, ImageDraw

from akt_spark.config import EncoderConfig
from akt_spark.content.encoders import encoder_spec
from akt_spark.content.encoders.images import decode_image
from akt_spark.content.encoders.minilm_vl import MiniLMVL, MiniLMVLSpec

SHORT, LONG = "Title: Red shoe", "Title: A very long story about ships and storms. Category: Books > Sea > Novels"


def picture(colour: str, mode: str = "RGB", fmt: str = "PNG") -> bytes:
    image = Image.new(mode, (60, 40), "white")
    ImageDraw.Draw(image).ellipse((10, 5, 50, 35), fill=colour)
    file = io.BytesIO()
    image.save(file, fmt)
    return file.getvalue()


RED, BLUE = picture("red"), picture("blue", fmt="JPEG")
BROKEN = {"cut off": RED[: len(RED) // 2], "no image": b"hello", "empty": b""}


@pytest.fixture(scope="module")
def encoder() -> MiniLMVL:
    return MiniLMVLSpec(image_size=64, max_tokens=32).load("cpu")


def alone(encoder: MiniLMVL, text: str, image: bytes | None = None) -> np.ndarray:
    return encoder.encode([text], [image]).vectors[0]


def test_a_vector_does_not_depend_on_its_batch(encoder):
    texts, images = [SHORT, LONG, SHORT, LONG, SHORT], [RED, None, None, BLUE, BLUE]
    together = encoder.encode(texts, images).vectors
    apart = np.stack([alone(encoder, text, image) for text, image in zip(texts, images, strict=True)])
    np.testing.assert_allclose(together, apart, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    assert together.dtype == np.float32


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN.keys())
def test_a_corrupt_image_gives_exactly_the_vector_of_the_text_and_a_flag(encoder, broken):
    result = encoder.encode([SHORT], [broken])
    np.testing.assert_array_equal(result.vectors[0], alone(encoder, SHORT))
    assert (result.image_corrupt[0], result.image_missing[0]) == (True, False)


def test_rows_without_a_usable_image_equal_those_of_a_text_only_batch(encoder):
    text_only = encoder.encode([SHORT, LONG], [None, None]).vectors
    mixed = encoder.encode([SHORT, SHORT, LONG], [None, RED, BROKEN["cut off"]])
    np.testing.assert_array_equal(mixed.vectors[[0, 2]], text_only)
    assert mixed.image_missing.tolist() == [True, False, False]
    assert mixed.image_corrupt.tolist() == [False, False, True]


def test_the_image_matters_and_so_does_its_content(encoder):
    red, blue, none = alone(encoder, SHORT, RED), alone(encoder, SHORT, BLUE), alone(encoder, SHORT)
    assert none @ red < 0.99
    assert red @ blue < 0.9999


def test_images_of_any_mode_are_read():
    for image in (picture("red"), picture("blue", fmt="JPEG"), picture("black", mode="L"), picture("red", mode="P")):
        assert decode_image(image, 16).shape == (16, 16, 3)


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
