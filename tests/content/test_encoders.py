"""What every family does with images and texts, whole and broken."""

from __future__ import annotations

import numpy as np
import pytest

from akt_spark.content.encoders import Encoder
from akt_spark.content.encoders.minilm_vl import MiniLMVLSpec
from content.pictures import BLUE, BROKEN, RED, WHOLE, animated
from content.test_qwen_vl import LONG, SHORT, load
from content.tiny_qwen import tiny_qwen


@pytest.fixture(scope="module", params=["minilm_vl", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "gme"])
def encoder(request, tmp_path_factory) -> Encoder:
    if request.param == "minilm_vl":
        return MiniLMVLSpec(image_size=64, max_tokens=32).load("cpu")
    return load(tiny_qwen(tmp_path_factory.mktemp("models") / request.param, request.param))


def alone(encoder: Encoder, text: str, image: bytes | None = None) -> np.ndarray:
    return encoder.encode([text], [image]).vectors[0]


def test_a_vector_does_not_depend_on_its_batch(encoder):
    texts, images = [SHORT, LONG, SHORT, LONG, SHORT], [RED, None, None, BLUE, BLUE]
    together = encoder.encode(texts, images).vectors
    apart = np.stack([alone(encoder, text, image) for text, image in zip(texts, images, strict=True)])
    np.testing.assert_allclose(together, apart, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    assert (together.dtype, together.shape) == (np.float32, (5, encoder.dim))


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN.keys())
def test_an_image_that_cannot_be_used_gives_exactly_the_vector_of_the_text_and_a_flag(encoder, broken):
    result = encoder.encode([SHORT, 2 * LONG, LONG], [broken, RED, None])  # the image's row is the longest
    text_only = encoder.encode([SHORT, LONG], [None, None])
    np.testing.assert_array_equal(result.vectors[[0, 2]], text_only.vectors)
    assert result.image_corrupt.tolist() == [True, False, False]
    assert result.image_missing.tolist() == [False, False, True]
    np.testing.assert_array_equal(result.n_tokens[[0, 2]], text_only.n_tokens)


@pytest.mark.parametrize("image", WHOLE.values(), ids=WHOLE.keys())
def test_images_of_any_mode_and_size_are_seen(encoder, image):
    result = encoder.encode([SHORT], [image])
    assert not result.image_corrupt[0]
    assert alone(encoder, SHORT) @ result.vectors[0] < 0.9999


def test_of_an_animation_the_first_frame_is_seen(encoder):
    np.testing.assert_allclose(alone(encoder, SHORT, animated()), alone(encoder, SHORT, RED), atol=0.02)


def test_tokens_and_padding_are_those_of_the_groups_that_the_model_reads(encoder):
    short, long = (int(encoder.lengths([text], [None])[0]) for text in (SHORT, LONG))
    seen = int(encoder.lengths([SHORT], [RED])[0])
    assert seen > short
    prepared = encoder.prepare([SHORT, LONG, SHORT, SHORT], [None, None, RED, BROKEN["empty"]])
    # the marks around a Qwen image are not in `lengths`
    marks = prepared.tokens - (2 * short + long + seen)
    assert marks in (0, 2)
    assert prepared.padded_tokens == 3 * long + seen + marks
