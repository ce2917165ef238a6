"""The fingerprint of raw files: changes with them, and with nothing else."""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path

import pytest

from akt_spark.conf_file import load
from akt_spark.config import Config
from akt_spark.errors import SourceError
from akt_spark.sources.fingerprint import source_fingerprint

DAY = date(2024, 1, 2)


def _shop(path: Path) -> Config:
    return load(None, [f"source={{kind: folder, path: {path}}}"])


def test_a_fingerprint_changes_with_the_files_that_are_read(tmp_path: Path) -> None:
    parts = tmp_path / "events.parquet"
    parts.mkdir()
    for file in (parts / "part-0.parquet", tmp_path / "items.parquet"):
        file.write_bytes(b"rows")
    first = source_fingerprint(_shop(tmp_path), DAY)

    (tmp_path / "notes.txt").write_text("not read")
    (parts / "_SUCCESS").touch()
    assert source_fingerprint(_shop(tmp_path), DAY) == first

    (parts / "part-1.parquet").write_bytes(b"more")
    second = source_fingerprint(_shop(tmp_path), DAY)
    assert second != first

    state = (tmp_path / "items.parquet").stat()
    os.utime(tmp_path / "items.parquet", ns=(state.st_atime_ns, state.st_mtime_ns + 1))  # rewritten, of the same size
    assert source_fingerprint(_shop(tmp_path), DAY) != second


def test_a_path_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="nowhere does not exist"):
        source_fingerprint(_shop(tmp_path / "nowhere"), DAY)
    with pytest.raises(SourceError, match="s3://bucket/log: a URI is not supported"):
        source_fingerprint(load(None, ["source={kind: folder, path: s3://bucket/log}"]), DAY)
