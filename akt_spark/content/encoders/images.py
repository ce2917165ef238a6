"""Photos as pixel arrays."""

from __future__ import annotations

import io
import warnings

import numpy as np
from PIL import Image


def decode_image(data: bytes, size: int) -> np.ndarray | None:
    """Decodes any format that Pillow knows.

    Returns:
        (size, size, 3) uint8 RGB, or None when the bytes are not a whole, sane image: truncated, empty, or so large
        when unpacked that Pillow suspects a decompression bomb.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data)) as image:
                return np.array(image.convert("RGB").resize((size, size), Image.Resampling.BICUBIC))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning):
        return None  # Pillow raises SyntaxError and ValueError, too, for broken files
