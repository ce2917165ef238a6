"""The stage build_semantic_ids: fit or keep a codebook, assign what is new, measure, gate, publish.

A published ID never moves: while encoder and configuration stay, only ids without an ID get one, even where the vector
of another id has changed. A new codebook becomes visible by one commit to ``semantic.codebooks``, after its IDs are
written; whatever was published before stays until then. Every step before that commit can be repeated.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from akt_spark.config import QuantizerConfig, fingerprint
from akt_spark.features.segments import segments
from akt_spark.lake import Lake
from akt_spark.semantic.assign import assign
from akt_spark.semantic.health import Health, Inputs, check, measure
from akt_spark.semantic.inputs import Vectors, fitting_vectors, leaf_categories, usable_vectors
from akt_spark.semantic.versions import CODEBOOKS, published, published_version
from akt_spark.stage import Context, Outcome

__all__ = ["published_version", "run"]

HEALTH = "semantic.health"


@dataclass(frozen=True)
class Codebook:
    """The codebook that a run works with, as ``semantic.codebooks`` has it, and whether this run fitted it."""

    version: str
    path: str
    sizes: tuple[int, ...]
    fresh: bool
    why: str | None = None  # how the sizes of a new one were found


def run(ctx: Context) -> Outcome:
    """Publishes semantic IDs of items, then of users.

    Raises:
        HealthGateError: when health is below the gate; the entity keeps what was published before.
        DataError: when there are no usable vectors, or fewer distinct ones than codes.
    """
    outcome = Outcome()
    for entity in ("item", "user"):
        _publish(ctx, entity, outcome)
    return outcome


def _publish(ctx: Context, entity: str, outcome: Outcome) -> None:
    config, gate = getattr(ctx.config.semantic, entity), getattr(ctx.config.semantic, f"{entity}_gate")
    vectors = usable_vectors(ctx.lake, entity, ctx.ds, config.kind)
    roles = _roles(ctx, entity).persist()  # every measure looks at them
    before = published(ctx.lake, entity)
    if before is not None and _fits(before, vectors.revision, config, ctx):
        codebook = Codebook(before["codebook_version"], before["path"], tuple(before["sizes"]), fresh=False)
    else:
        codebook = _fit_candidate(ctx, entity, vectors, roles, config)
    old = ids_of(ctx.lake, entity, codebook.version)
    new = assign(vectors.usable.join(old, on="id", how="left_anti"), codebook.path).persist()
    try:
        ids = old.select("id", "sid", "codes").unionByName(new.select("id", "sid", "codes"))
        categories = leaf_categories(ctx.lake) if entity == "item" else None
        inputs = Inputs(ids, vectors.usable, roles, categories, codebook.sizes, codebook.path)
        health = measure(inputs, ctx.config.semantic.health)
        _write_health(ctx, entity, codebook.version, health)
        check(health, gate, entity, codebook.version, before["codebook_version"] if before else None)
        added = _write_ids(ctx, entity, codebook.version, new)
    finally:
        new.unpersist()
        roles.unpersist()
    if codebook.fresh:
        _switch(ctx.lake, entity, codebook.version)
    moved = _changed_content(ids_of(ctx.lake, entity, codebook.version), vectors.usable)
    outcome.rows_in += vectors.count + sum(vectors.excluded.values())
    outcome.rows_out += added
    outcome.notes += _notes(entity, codebook, health, vectors, added, moved)


def ids_of(lake: Lake, entity: str, version: str) -> DataFrame:
    """Rows of ``semantic.<entity>_ids`` of one codebook, with the id as ``id``."""
    table = f"semantic.{entity}_ids"
    lake.register(table)
    return lake.read(table).where(F.col("codebook_version") == version).withColumnRenamed(f"{entity}_id", "id")


def _roles(ctx: Context, entity: str) -> DataFrame:
    train_end = ctx.config.split.train_end(ctx.ds)
    known = segments(ctx.lake, entity, train_end, getattr(ctx.config.segments, entity))
    return known.select(F.col(f"{entity}_id").alias("id"), "impressions", "role")


def _fits(codebook: Row, revision: str, config: QuantizerConfig, ctx: Context) -> bool:
    """Whether a published codebook may go on: same embeddings, same configuration, and not fitted after this day."""
    same = codebook["encoder_revision"] == revision and codebook["config_hash"] == _hash(config)
    return same and codebook["fitted_ds"] <= ctx.ds


def _hash(config: QuantizerConfig) -> str:
    return fingerprint(config.model_dump())


def _fit_candidate(ctx: Context, entity: str, vectors: Vectors, roles: DataFrame, config: QuantizerConfig) -> Codebook:
    from akt_spark.semantic.fit import fit  # brings torch in; a night without a new codebook goes without

    train_end = ctx.config.split.train_end(ctx.ds)
    known = fitting_vectors(ctx.lake, entity, vectors.usable, roles, train_end)
    print(f"fitting a codebook of {entity}s, sizes {config.sizes}", flush=True)
    fitted = fit(known, roles, vectors.revision, config, ctx.ds, ctx.lake.artifact("codebooks", entity))
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
        "metrics": fitted.report.metrics(),
    }
    ctx.lake.merge(CODEBOOKS, ctx.spark.createDataFrame([row], schema=ctx.lake.schema(CODEBOOKS)))
    return Codebook(fitted.version, str(fitted.path), fitted.sizes, fresh=True, why=fitted.why)


def _write_health(ctx: Context, entity: str, version: str, health: Health) -> None:
    rows = [(metric, level, value) for (metric, level), value in sorted(health.values.items())]
    measures = ctx.spark.createDataFrame(rows, "metric STRING, level INT, value DOUBLE")
    constants = {
        "run_id": F.lit(ctx.run_id),
        "ds": F.lit(ctx.ds),
        "entity": F.lit(entity),
        "codebook_version": F.lit(version),
    }
    where = f"run_id = '{ctx.run_id}' AND entity = '{entity}'"
    ctx.lake.overwrite(HEALTH, measures.withColumns(constants), where=where)


def _write_ids(ctx: Context, entity: str, version: str, new: DataFrame) -> int:
    rows = new.withColumns({"codebook_version": F.lit(version), "assigned_ds": F.lit(ctx.ds)})
    return ctx.lake.insert_new(f"semantic.{entity}_ids", rows.withColumnRenamed("id", f"{entity}_id"))


def _switch(lake: Lake, entity: str, version: str) -> None:
    """Publishes ``version`` and retires what was published, in one commit: readers see one or the other."""
    chosen = F.col("codebook_version") == version
    rows = lake.read(CODEBOOKS).where((F.col("entity") == entity) & (chosen | (F.col("status") == "published")))
    lake.merge(CODEBOOKS, rows.withColumn("status", F.when(chosen, "published").otherwise("retired")))


def _changed_content(ids: DataFrame, vectors: DataFrame) -> int:
    """IDs that were assigned from other content than the id has now."""
    now = vectors.select("id", F.col("content_hash").alias("now"))
    return ids.join(now, on="id").where(F.col("content_hash") != F.col("now")).count()


def _notes(entity: str, codebook: Codebook, health: Health, vectors: Vectors, added: int, moved: int) -> Iterator[str]:
    action = "new codebook" if codebook.fresh else "published codebook kept"
    sizes = "x".join(map(str, codebook.sizes))
    yield f"{entity}s: {action} {codebook.version}, sizes {sizes}; IDs added {added:,}"
    if codebook.why:
        yield f"  {codebook.why}"
    yield (
        f"  coverage {_by_level(health.levels('coverage'), '.2f')}; "
        f"median cluster {_by_level(health.levels('median_cluster_size'), '.0f')}; "
        f"head coverage {_by_level(health.levels('head_coverage'), '.2f')} (by prefix length)"
    )
    agreement, random = (health.of(f"neighbour_agreement{suffix}", 1) for suffix in ("", "_random"))
    yield (
        f"  collision {_by_level([health.of('collision')], '.3f')}; "
        f"unexplained variance {_by_level([health.of('unexplained_variance')], '.3f')}; "
        f"neighbour agreement {_by_level([agreement], '.2f')} (random {_by_level([random], '.2f')})"
    )
    if vectors.excluded:
        yield "  left out: " + ", ".join(f"{n:,} {reason}" for reason, n in sorted(vectors.excluded.items()))
    if moved:
        yield f"  {moved:,} IDs keep what they got from earlier content"


def _by_level(values: list[float | None], form: str) -> str:
    return " / ".join("-" if value is None else format(value, form) for value in values)
