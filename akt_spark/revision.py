"""The revision of code: what decides, beside inputs and configuration, what a run gives."""

from __future__ import annotations

import hashlib
from pathlib import Path

SOURCES = (".py", ".j2", ".txt", ".sql")


def source_revision(*folders: Path) -> str:
    """Hash of all sources under some folders: equal code, equal revision, with or without git (16 hex digits)."""
    digest = hashlib.sha256()
    for path in sorted(path for folder in folders for path in folder.rglob("*") if path.suffix in SOURCES):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]
