"""The whole of maintenance, in an order in which a kill leaves nothing broken and the next run goes on."""

from __future__ import annotations

from collections.abc import Iterator

from akt_spark.config import MaintenanceConfig
from akt_spark.lake import Lake, declared_tables
from akt_spark.maintenance.files import clustering, compact, live, needs_compaction, vacuum
from akt_spark.maintenance.folders import unnamed_folders
from akt_spark.maintenance.policy import pinned_versions, runs
from akt_spark.maintenance.rows import removals


def maintain(lake: Lake, config: MaintenanceConfig, dry_run: bool = False) -> Iterator[str]:
    """Removes rows, then folders, compacts, and removes files; yields a line for each thing done.

    With ``dry_run`` the lines say what would be done, and nothing changes. Files of rows that are removed now, and
    files that are compacted now, stay on disk until the retention has passed: a later run removes them.
    """
    known = runs(lake, config.keep_runs)
    yield f"runs: {len(known.kept)} kept, {len(known.dropped)} no longer kept"
    pinned = pinned_versions(lake, known.kept)
    planned = removals(lake, known, config)
    for removal in planned:
        if count := removal.count(lake):
            if not dry_run:
                removal.apply(lake)
            yield f"{removal.table}: {count:,} rows removed, {removal.why}"
    for folder in unnamed_folders(lake, planned, config.retention_hours):
        if not dry_run:
            folder.remove()
        yield f"{folder.path}: removed, no table names it ({_shown(folder.bytes)})"
    for table in filter(lake.exists, declared_tables()):
        before = live(lake, table)
        if needs_compaction(table, before, config):
            if not dry_run:
                compact(lake, table, config)
            after = "" if dry_run else f" to {live(lake, table).files:,}"
            order = f", clustered by {', '.join(clustering(table))}" if clustering(table) else ""
            yield f"{table}: {before.files:,} files ({_shown(before.bytes)}) compacted{after}{order}"
        removed = vacuum(lake, table, pinned.get(table, ()), config.retention_hours, dry_run)
        if removed.files:
            yield f"{table}: {removed.files:,} files removed that no kept version needs ({_shown(removed.bytes)})"


def _shown(size: int) -> str:
    return f"{size / 1e6:,.1f} MB" if size >= 1e5 else f"{size / 1e3:,.1f} kB"
