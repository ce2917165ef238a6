"""Columns of Arrow tables as arrays."""

import zlib

import pyarrow as pa
import pytest

from akt_spark.training.columns import crc32

TEXTS = ["395dc17e1d072d6d", "", "a", "ä€😀", "x" * 300, "\x00", "\x00\x00a"]


@pytest.mark.parametrize("chosen", [slice(None), slice(2, 5), slice(1, 2), slice(0, 0)])
def test_checksums_of_texts_are_those_of_zlib(chosen: slice) -> None:
    texts = pa.array(TEXTS)[chosen]  # a part keeps the buffers of the whole
    assert crc32(texts).tolist() == [zlib.crc32(text.encode()) for text in TEXTS[chosen]]
