"""The stage build_semantic_ids: fit or keep a codebook, assign what is new, measure, gate, publish.

A published ID never moves because others come or a codebook is fitted. An item or user whose content has changed keeps
its ID or gets another one, as ``semantic.<entity>_changed_content`` says. A new codebook is fitted beside the published
one, takes over its names (`relabel`), is compared with it (`churn`), and becomes visible by one commit to
``semantic.codebooks`` after its IDs are written (`promotion`). Every step before that commit can be repeated.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from akt_spark.config import QuantizerConfig, fingerprint
from akt_spark.errors import HealthGateError
from akt_spark.features.segments import segments
from akt_spark.quarantine import write_quarantine
from akt_spark.semantic.assign import assign
from akt_spark.semantic.churn import CHURN, changed_ids, churn_measures, write_churn
from akt_spark.semantic.collisions import resolve
from akt_spark.semantic.health import HEALTH, Health, Inputs, by_level, check, measure
from akt_spark.semantic.ids import ids_of, unassigned, write_ids
from akt_spark.semantic.inputs import (
    Vectors,
    category_paths,
    fitting_vectors,
    held_out_pairs,
    labelled,
    quarantined,
    usable_vectors,
)
from akt_spark.semantic.measures import CATEGORY, OWN, RANDOM
from akt_spark.semantic.model_folder import read_description
from akt_spark.semantic.promotion import promote
from akt_spark.semantic.versions import CODEBOOKS, Codebook, codebooks, published
from akt_spark.stage import Context, Outcome

COMPARED = ["id", "sid", "codes", "content_hash", "margin"]  # columns of IDs that measures and comparisons read


def run(ctx: Context) -> Outcome:
    """Publishes semantic IDs of items, then of users.

    Raises:
        HealthGateError: when health is below the gate; the entity keeps what was published before.
        DataError: when there are no usable vectors, or fewer distinct ones than codes.
        AktError: when another run has published another codebook meanwhile.
    """
    outcome = Outcome()
    ctx.lake.register(CHURN)  # analysts ask for it before there is any
    for entity in ("item", "user"):
        publish(ctx, entity, outcome)
    return outcome


def publish(ctx: Context, entity: str, outcome: Outcome) -> None:
    """What `run` does for ``item`` or ``user``."""
    lake = ctx.lake
    vectors = usable_vectors(lake, entity, ctx.ds)
    rejected = sum(vectors.excluded.values())
    write_quarantine(ctx, {f"content.{entity}_embeddings": quarantined(vectors.unusable)}, rejected)
    outcome.quarantined += rejected
    outcome.rows_in += vectors.count + rejected
    live, codebook = published(lake, entity), _wanted(ctx, entity, vectors)
    # readers get what the night brings, whatever becomes of a candidate
    another = live and (codebook is None or codebook.version != live.version)
    kept_up = list(_keep_up(ctx, entity, live, vectors)) if another else []
    roles = _roles(ctx, entity).persist()  # every measure looks at them
    try:
        codebook = codebook or _fit_candidate(ctx, entity, live, vectors, roles)
        follows = live if live and live.version != codebook.version else None
        with _assigned(ctx, entity, codebook, vectors) as (old, new):
            ids = old.join(new.select("id"), on="id", how="left_anti").unionByName(new.select(COMPARED))
            health = _health(ctx, entity, codebook, ids, vectors, roles)
            if follows:
                before = ids_of(lake, entity, follows.version)
                levels = min(len(follows.sizes), len(codebook.sizes))
                health = health.with_measures(churn_measures(before, ids, levels))
            _write_health(ctx, entity, codebook.version, health)
            try:
                gate = getattr(ctx.config.semantic, f"{entity}_gate")
                check(health, gate, entity, codebook.version, live.version if live else None)
            except HealthGateError:
                _write_health_of_published(ctx, entity, follows, vectors, roles)
                raise
            if follows:
                changed = changed_ids(before, ids, follows.revision == codebook.revision)
                write_churn(ctx, entity, follows.version, codebook.version, changed)
            added, moved = _write(ctx, entity, codebook, old, new)
        if waits := codebook.status != "published" and live and _not_by_night(ctx, codebook, live):
            _write_health_of_published(ctx, entity, live, vectors, roles)
    finally:
        roles.unpersist()
    outcome.rows_out += added
    outcome.notes += _notes(entity, codebook, health, vectors, added)
    outcome.notes += _content_notes(ctx, entity, codebook, vectors.usable, moved)
    outcome.notes += _promotion(ctx, entity, codebook, live, waits or None, kept_up)


def _wanted(ctx: Context, entity: str, vectors: Vectors) -> Codebook | None:
    """The codebook that encoder and configuration ask for: published, or made earlier; None where it is to be fitted.

    A night before that of the published codebook keeps it too: its IDs must not move.
    """
    fitting = [
        book
        for book in codebooks(ctx.lake, entity).values()
        if (book.revision, book.config_hash) == (vectors.revision, _hash(getattr(ctx.config.semantic, entity)))
        and (book.fitted_ds <= ctx.ds or book.status == "published")
        and Path(book.path).is_dir()
    ]
    return max(fitting, key=lambda book: (book.status == "published", book.fitted_ds, book.version), default=None)


@contextmanager
def _assigned(ctx: Context, entity: str, book: Codebook, vectors: Vectors) -> Iterator[tuple[DataFrame, DataFrame]]:
    """The IDs that a codebook has given (`COMPARED`), and those that it gives to what came since."""
    old = ids_of(ctx.lake, entity, book.version).select(COMPARED)
    missing = unassigned(vectors.usable, old, _reassigns(ctx, entity))
    most = read_description(Path(book.path)).config.max_per_sid
    new = assign(labelled(ctx.lake, missing, book.kind), book.path, ranked=most is not None)
    if most is not None:
        new = resolve(new, old.join(missing.select("id"), on="id", how="left_anti"), book.sizes, most)
    new = new.persist()
    try:
        yield old, new
    finally:
        new.unpersist()


def _write(ctx: Context, entity: str, book: Codebook, old: DataFrame, new: DataFrame) -> tuple[int, int]:
    """Writes what `_assigned` gives; returns how many IDs were written, and how many of them moved."""
    moved, reassign = 0, _reassigns(ctx, entity)
    if reassign:
        of_content = changed_ids(old, new.select(COMPARED), same_encoder=True)
        moved = write_churn(ctx, entity, book.version, book.version, of_content)
    return write_ids(ctx, entity, book.version, new, reassign), moved


def _keep_up(ctx: Context, entity: str, live: Codebook, vectors: Vectors) -> Iterator[str]:
    """Brings the IDs of the published codebook up to date where another one is wanted."""
    if live.revision != vectors.revision:
        missing = unassigned(vectors.usable, ids_of(ctx.lake, entity, live.version), reassign=False)
        yield f"  {missing.count():,} {entity}s have no ID in {live.version}: it belongs to encoder {live.revision}"
    elif not Path(live.path).is_dir():
        yield f"  {live.version} gets no IDs: its folder {live.path} is gone"
    else:
        with _assigned(ctx, entity, live, vectors) as (old, new):
            added, moved = _write(ctx, entity, live, old, new)
        yield f"  IDs added to {live.version}: {added:,}"
        yield from _content_notes(ctx, entity, live, vectors.usable, moved)


def _promotion(
    ctx: Context, entity: str, codebook: Codebook, live: Codebook | None, waits: str | None, kept_up: list[str]
) -> Iterator[str]:
    """Publishes the codebook unless it ``waits``; then says why, and what the published one has got."""
    if codebook.status == "published":
        return
    if waits is None:
        promote(ctx.lake, entity, codebook.version, instead_of=live.version if live else None)
        yield f"  {codebook.version} is published" + (f" instead of {live.version}" if live else "")
        return
    by_hand = f"jobs/semantic_ids.py promote --entity {entity} --version {codebook.version}"
    yield f"  {codebook.version} is not published ({waits}); {live.version} stays: {by_hand}"
    yield from kept_up


def _not_by_night(ctx: Context, codebook: Codebook, live: Codebook) -> str | None:
    """Why only a person may publish a codebook instead of the published one; None where a night may."""
    if codebook.rolled_back:
        return "it was rolled back"
    if ctx.config.semantic.promotion == "manual":
        return "semantic.promotion is manual"
    if ctx.ds < live.fitted_ds:
        return f"this is an earlier night than {live.fitted_ds}, that of the published one"
    return None


def _reassigns(ctx: Context, entity: str) -> bool:
    return getattr(ctx.config.semantic, f"{entity}_changed_content") == "reassign"


def _roles(ctx: Context, entity: str) -> DataFrame:
    train_end = ctx.config.split.train_end(ctx.ds)
    known = segments(ctx.lake, entity, train_end, getattr(ctx.config.segments, entity))
    return known.select(F.col(f"{entity}_id").alias("id"), "impressions", "role")


def _hash(config: QuantizerConfig) -> str:
    return fingerprint(config.model_dump(exclude_none=True))


def _fit_candidate(ctx: Context, entity: str, live: Codebook | None, vectors: Vectors, roles: DataFrame) -> Codebook:
    from akt_spark.semantic.fit import fit  # brings torch in; a night without a new codebook goes without

    config: QuantizerConfig = getattr(ctx.config.semantic, entity)
    train_end = ctx.config.split.train_end(ctx.ds)
    known = fitting_vectors(ctx.lake, entity, vectors.usable, roles, train_end)
    published_ids = ids_of(ctx.lake, entity, live.version) if live else None
    print(f"fitting a codebook of {entity}s, sizes {config.sizes}", flush=True)
    folder = ctx.lake.artifact("codebooks", entity)
    fitted = fit(labelled(ctx.lake, known, config.kind), roles, vectors.revision, config, ctx.ds, folder, published_ids)
    row = {
        "entity": entity,
        "codebook_version": fitted.version,
        "quantizer": config.kind,
        "sizes": list(fitted.sizes),
        "path": str(fitted.path),
        "encoder_revision": vectors.revision,
        "config_hash": _hash(config),
        "status": "candidate",
        "fitted_ds": ctx.ds,
        "metrics": fitted.metrics,
    }
    schema = ctx.lake.schema(CODEBOOKS)
    rows = ctx.spark.createDataFrame([tuple(row.get(name) for name in schema.names)], schema)
    # the same model may be there already, even published: made by another run at once, or by other words for its sizes
    ctx.lake.merge(CODEBOOKS, rows, update={"config_hash": F.col("new.config_hash")})
    return replace(codebooks(ctx.lake, entity)[fitted.version], fresh=True, why=fitted.why)


def _health(ctx: Context, entity: str, book: Codebook, ids: DataFrame, vectors: Vectors, roles: DataFrame) -> Health:
    paths, pairs = (category_paths(ctx.lake), held_out_pairs(ctx.lake)) if entity == "item" else (None, None)
    seen = Inputs(ids, vectors.usable, roles, paths, pairs, book.sizes, book.path)
    return measure(seen, ctx.config.semantic.health)


def _write_health_of_published(
    ctx: Context, entity: str, live: Codebook | None, vectors: Vectors, roles: DataFrame
) -> None:
    """What readers have this night, where another codebook than theirs was measured; not where vectors are others."""
    if live and live.revision == vectors.revision and Path(live.path).is_dir():
        ids = ids_of(ctx.lake, entity, live.version).select(COMPARED)
        _write_health(ctx, entity, live.version, _health(ctx, entity, live, ids, vectors, roles), beside=True)


def _write_health(ctx: Context, entity: str, version: str, health: Health, beside: bool = False) -> None:
    """Replaces what the run has measured before, or with ``beside`` adds to it."""
    rows = [(*place, value) for place, value in sorted(health.values.items())]
    measures = ctx.spark.createDataFrame(rows, "metric STRING, level INT, control STRING, value DOUBLE")
    constants = {
        "run_id": F.lit(ctx.run_id),
        "ds": F.lit(ctx.ds),
        "entity": F.lit(entity),
        "codebook_version": F.lit(version),
    }
    where = f"run_id = '{ctx.run_id}' AND entity = '{entity}'"
    if beside:
        where += f" AND codebook_version = '{version}'"
    ctx.lake.overwrite(HEALTH, measures.withColumns(constants), where=where)


def _notes(entity: str, codebook: Codebook, health: Health, vectors: Vectors, added: int) -> Iterator[str]:
    action = "new codebook" if codebook.fresh else f"{codebook.status} codebook kept"
    sizes = "x".join(map(str, codebook.sizes))
    yield f"{entity}s: {action} {codebook.version}, sizes {sizes}; IDs added {added:,}"
    if codebook.why:
        yield f"  {codebook.why}"
    yield (
        f"  coverage {by_level(health.levels('coverage'), '.2f')}; "
        f"median cluster {by_level(health.levels('median_cluster_size'), '.0f')}; "
        f"head coverage {by_level(health.levels('head_coverage'), '.2f')} (by prefix length)"
    )
    agreement, random = (health.of("neighbour_agreement", 1, control) for control in (OWN, RANDOM))
    yield (
        f"  collision {by_level([health.of('collision')], '.3f')}; "
        f"unexplained variance {by_level([health.of('unexplained_variance')], '.3f')}; "
        f"neighbour agreement {by_level([agreement], '.2f')} (random {by_level([random], '.2f')})"
    )
    if vectors.excluded:
        yield "  in quarantine: " + ", ".join(f"{n:,} {reason}" for reason, n in sorted(vectors.excluded.items()))
    if recall := health.levels("co_occurrence_recall"):
        of_controls = (
            f"{control} {by_level(health.levels('co_occurrence_recall', control), '.2f')}"
            for control in (RANDOM, CATEGORY)
        )
        yield f"  co-clicked pairs with one prefix {by_level(recall, '.2f')} ({'; '.join(of_controls)})"
    if health.levels("churn"):
        yield (
            f"  against the published one: first code another for {by_level([health.of('churn', 1)], '.3f')} of ids, "
            f"adjusted Rand index {by_level(health.levels('adjusted_rand'), '.2f')} (by prefix length; {CHURN})"
        )


def _content_notes(ctx: Context, entity: str, codebook: Codebook, vectors: DataFrame, moved: int) -> Iterator[str]:
    """What became of ids whose content is another than when they got their ID."""
    if _reassigns(ctx, entity):
        if moved:
            yield f"  {moved:,} IDs moved because their content changed ({CHURN})"
        return
    ids, now = ids_of(ctx.lake, entity, codebook.version), vectors.select("id", F.col("content_hash").alias("now"))
    kept = ids.join(now, on="id").where(F.col("content_hash") != F.col("now")).count()
    if kept:
        yield f"  {kept:,} IDs keep what they got from earlier content"
