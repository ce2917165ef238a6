"""What ``jobs/semantic_ids.py`` does: list, compare, promote, roll back. Each gives the lines that a person reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from akt_spark.errors import ConfigError, DataError
from akt_spark.features.activity import ENTITIES
from akt_spark.semantic.churn import CHURN, changed_ids, churn_measures, write_churn
from akt_spark.semantic.health import HEALTH, Health, by_level
from akt_spark.semantic.ids import ids_of
from akt_spark.semantic.promotion import promote, rollback
from akt_spark.semantic.versions import Codebook, codebooks, published
from akt_spark.stage import Context

HEADINGS = ("version", "status", "sizes", "IDs", "level-1 use", "unexplained", "fitted for", "published (UTC)")


def list_codebooks(ctx: Context) -> Iterator[str]:
    """Every codebook, newest last, with how many IDs it has and what its fit measured."""
    for entity in ENTITIES:
        books = sorted(codebooks(ctx.lake, entity).values(), key=lambda book: (book.fitted_ds, book.version))
        table = ctx.lake.read(f"semantic.{entity}_ids") if ctx.lake.exists(f"semantic.{entity}_ids") else None
        counted = table.groupBy("codebook_version").count().collect() if table is not None else []
        ids = {row["codebook_version"]: row["count"] for row in counted}
        yield f"{entity}s" + ("" if books else ": none; jobs/build_semantic_ids.py makes the first")
        if books:
            yield from _aligned([HEADINGS, *(_cells(book, ids.get(book.version, 0)) for book in books)])


def compare(ctx: Context, entity: str, version: str | None) -> Iterator[str]:
    """What publishing a codebook would change; every changed ID is written to ``semantic.churn``.

    Args:
        ctx: its day is not used.
        entity: ``item`` or ``user``.
        version: the codebook; by default the newest that is not published.

    Raises:
        ConfigError: when there is no such version.
        DataError: when nothing is published, or there is nothing to compare with it.
    """
    books, live = codebooks(ctx.lake, entity), published(ctx.lake, entity)
    if live is None:
        raise DataError(f"no codebook of {entity}s is published: run jobs/build_semantic_ids.py first")
    others = [book for book in books.values() if book.version != live.version]
    if version is None and others:
        version = max(others, key=lambda book: (book.fitted_ds, book.version)).version
    if version is None or version == live.version:
        raise DataError(f"{entity}s have no codebook beside {live.version}, which is published")
    if version not in books:
        raise ConfigError(f"{entity}s have no codebook {version}; there is: {', '.join(sorted(books))}")
    book = books[version]
    old, new = (ids_of(ctx.lake, entity, one.version) for one in (live, book))
    levels = min(len(live.sizes), len(book.sizes))
    measures = {(m.metric, m.level): m.value for m in churn_measures(old, new, levels)}
    changed = changed_ids(old, new, live.revision == book.revision)
    moved = write_churn(replace(ctx, ds=book.fitted_ds), entity, live.version, version, changed)
    both, only_old, only_new = _overlap(old.select("id"), new.select("id"))
    yield f"{entity}s: {live.version} (published) and {version} ({book.status}); {both:,} have an ID in both"
    yield f"  {only_old:,} have none in {version}, {only_new:,} have none in {live.version}"
    for level in sorted({level for _, level in measures}):
        yield (
            f"  first {level} of the codes: {measures['churn', level]:.1%} of IDs change, "
            f"adjusted Rand index {measures['adjusted_rand', level]:.3f}"
        )
    for one in (live.version, version):
        yield f"  {one}: {_measured(ctx, entity, one)}"
    yield f"  {moved:,} IDs change; by segment and reason (all of them: {CHURN}):"
    rows = ctx.lake.read(CHURN).where((F.col("from_version") == live.version) & (F.col("to_version") == version))
    counts = rows.where(F.col("entity") == entity).groupBy("segment", "reason")
    counts = counts.agg(F.count("*").alias("ids"), F.count_if(F.col("depth") == 1).alias("clusters"))
    for row in counts.orderBy(F.desc("ids"), "segment", "reason").collect():
        who = row["segment"] or "unknown"
        yield f"    {who}, {row['reason']}: {row['ids']:,}, of them {row['clusters']:,} to another first code"


def promote_codebook(ctx: Context, entity: str, version: str | None) -> Iterator[str]:
    """Publishes a codebook.

    Raises:
        ConfigError: without a version, or for an unknown one.
        DataError: when it has no IDs, or lacks some that are published now.
        AktError: when another run decided at the same time.
    """
    if version is None:
        raise ConfigError("promote needs --version: jobs/semantic_ids.py list shows them")
    live = published(ctx.lake, entity)
    if version in codebooks(ctx.lake, entity):
        _require_ids(ctx, entity, version, live)
    promote(ctx.lake, entity, version, instead_of=live.version if live else None)
    yield f"{entity}s: {version} is published" + (f" instead of {live.version}" if live else "")


def roll_back(ctx: Context, entity: str) -> Iterator[str]:
    """Publishes again what was published before.

    Raises:
        DataError: when nothing was.
        AktError: when another run decided at the same time.
    """
    left, back = rollback(ctx.lake, entity)
    old, new = (ids_of(ctx.lake, entity, one).select("id") for one in (left, back))
    lacking = old.join(new, on="id", how="left_anti").count()
    yield f"{entity}s: {left} was rolled back, {back} is published again"
    if lacking:
        yield f"  {lacking:,} {entity}s that came since have no ID in it; a night adds them while its encoder is in use"


def _require_ids(ctx: Context, entity: str, version: str, live: Codebook | None) -> None:
    new, lacks = ids_of(ctx.lake, entity, version).select("id"), None
    if new.isEmpty():
        lacks = "has no IDs: it was below its gate, or its run did not end"
    elif live:
        lacking = ids_of(ctx.lake, entity, live.version).join(new, on="id", how="left_anti").count()
        lacks = f"has no ID for {lacking:,} {entity}s that have one now" if lacking else None
    if lacks:
        raise DataError(
            f"codebook {version} {lacks}: run jobs/build_semantic_ids.py with the configuration that made it, "
            "then promote it"
        )


def _measured(ctx: Context, entity: str, version: str) -> str:
    """What the newest run that measured a codebook found."""
    ctx.lake.register(HEALTH)
    rows = ctx.lake.read(HEALTH).where((F.col("entity") == entity) & (F.col("codebook_version") == version))
    newest = rows.orderBy(F.desc("ds"), F.desc("run_id")).select("ds", "run_id").head()
    if newest is None:
        return f"no run has its measures in {HEALTH}"
    of_run = rows.where((F.col("ds") == newest["ds"]) & (F.col("run_id") == newest["run_id"]))
    health = Health({(row["metric"], row["level"], row["control"]): row["value"] for row in of_run.collect()})
    coverage, agreement = (by_level(health.levels(metric), ".2f") for metric in ("coverage", "neighbour_agreement"))
    return f"coverage {coverage}; neighbour agreement {agreement} (by level; measured for {newest['ds']})"


def _cells(book: Codebook, ids: int) -> tuple[str, ...]:
    status = "rolled back" if book.rolled_back else book.status
    use, unexplained = (book.metrics.get(name) for name in ("coverage_1", "unexplained_variance"))
    numbers = (f"{ids:,}", *("-" if value is None else f"{value:.3f}" for value in (use, unexplained)))
    promoted = f"{book.promoted_at:%Y-%m-%d %H:%M}" if book.promoted_at else "never"
    return (book.version, status, "x".join(map(str, book.sizes)), *numbers, str(book.fitted_ds), promoted)


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _overlap(old: DataFrame, new: DataFrame) -> tuple[int, int, int]:
    both = old.join(new, on="id", how="inner").count()
    return both, old.count() - both, new.count() - both
