"""Model folders that no row names.

Rows go first, folders after: a row never names a missing folder, and a folder left behind by a kill is found the next
time. A fit writes its folder before its row, so a folder counts as left behind only when nobody has touched it for the
retention.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from akt_spark.lake import Lake
from akt_spark.maintenance.policy import CHECKPOINTS, CODEBOOKS
from akt_spark.maintenance.rows import Removal

KINDS = ("codebooks", "rankers", "alignments", "waves", "candidates")  # each with two levels of folders below it


@dataclass(frozen=True)
class Folder:
    """A model folder that may go."""

    path: Path
    bytes: int

    def remove(self) -> None:
        """Removes it, and the folder of its run once that holds no other model."""
        shutil.rmtree(self.path)
        run = self.path.parent
        if run.parent.name == "rankers" and not any(entry.is_dir() for entry in run.iterdir()):
            shutil.rmtree(run)


def unnamed_folders(lake: Lake, planned: Iterable[Removal], retention_hours: int) -> list[Folder]:
    """Folders of codebooks and rankers that no row names once the planned removals are done, and what kills left."""
    planned = list(planned)
    named = set(_named(lake, planned))
    untouched_since = time.time() - 3600 * retention_hours
    found = []
    for kind in KINDS:
        for path in sorted(lake.artifact(kind).glob("*/*/")):
            files = [file.stat() for file in [path, *path.rglob("*")] if not file.is_symlink()]
            old = max(file.st_mtime for file in files) <= untouched_since
            if (kind, path.parent.name, path.name) not in named and old:
                found.append(Folder(path, sum(file.st_size for file in files)))
    return found


def _named(lake: Lake, planned: list[Removal]) -> Iterator[tuple[str, str, str]]:
    """Names, not paths: they hold when a lake has moved."""
    for row in _left(lake, CODEBOOKS, planned, "entity", "codebook_version"):
        yield ("codebooks", *row)
    for run_id, path in _left(lake, CHECKPOINTS, planned, "run_id", "path"):
        yield ("rankers", run_id, Path(path).parent.name)


def _left(lake: Lake, table: str, planned: list[Removal], *columns: str) -> list[tuple]:
    if not lake.exists(table):
        return []
    rows = lake.read(table)
    for removal in planned:
        rows = rows.where(~removal.rows) if removal.table == table else rows
    return [tuple(row) for row in rows.select(*columns).collect()]
