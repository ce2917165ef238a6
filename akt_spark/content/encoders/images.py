"""Photos as pixels."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image


def read_image(data: bytes) -> Image.Image | None:
    """Decodes any format that Pillow knows.

    Returns:
        The image in RGB, or None when the bytes are not a whole, sane image: truncated, empty, or so large when
        unpacked that Pillow suspects a decompression bomb.
    """
    try:
        with _opened(data) as image:
            return image.convert("RGB")
    except Exception:  # broken files make Pillow's readers raise nearly anything
        return None


def image_size(data: bytes) -> tuple[int, int] | None:
    """Width and height by the header, without decoding; None where it cannot be read."""
    try:
        with _opened(data) as image:
            return image.size
    except Exception:
        return None


def decode_image(data: bytes, size: int) -> np.ndarray | None:
    """(size, size, 3) uint8 RGB, or None where `read_image` finds no image."""
    image = read_image(data)
    return None if image is None else np.array(image.resize((size, size), Image.Resampling.BICUBIC))


def _opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    # Pillow refuses twice as many, and only warns below; turning warnings into errors is not safe with threads
    if image.width * image.height > Image.MAX_IMAGE_PIXELS:
        raise Image.DecompressionBombError(f"{image.width} x {image.height} pixels")
    return image
