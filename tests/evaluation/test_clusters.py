"""Thumbnails of the cluster browser."""

from __future__ import annotations

import base64
import io

import pytest
from PIL import Image

from akt_spark.evaluation.clusters import thumbnail


@pytest.mark.parametrize(("kind", "mode"), [("JPEG", "RGB"), ("JPEG", "CMYK"), ("JPEG", "L"), ("PNG", "RGBA")])
def test_a_photo_of_any_kind_becomes_a_small_jpeg_of_its_shape(kind: str, mode: str) -> None:
    photo = io.BytesIO()
    Image.new(mode, (1500, 1000)).save(photo, kind)
    head, encoded = thumbnail(photo.getvalue()).split(",")
    small = Image.open(io.BytesIO(base64.b64decode(encoded)))
    assert (head, small.format, small.mode, small.size) == ("data:image/jpeg;base64", "JPEG", "RGB", (72, 48))


@pytest.mark.parametrize("image", [None, b"", b"not a picture"])
def test_no_picture_or_one_that_cannot_be_decoded_is_none(image: bytes | None) -> None:
    assert thumbnail(image) is None
