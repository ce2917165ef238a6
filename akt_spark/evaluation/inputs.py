"""Everything else that the report reads: bounded by the configuration, and optional, so absent rows are empty lists."""

from __future__ import annotations

import math
import platform
from dataclasses import dataclass
from datetime import date, timedelta
from importlib.metadata import PackageNotFoundError, version

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from akt_spark.semantic.measures import OWN
from akt_spark.semantic.versions import CODEBOOKS, published
from akt_spark.stage import Context

PACKAGES = {
    "pyspark": "pyspark",
    "delta": "delta-spark",
    "torch": "torch",
    "transformers": "transformers",
    "petastorm": "petastorm",
    "horovod": "horovod",
    "pyarrow": "pyarrow",
}
CURVE_POINTS = 200
NIGHTS = 60  # over which health is shown


@dataclass(frozen=True)
class StageRun:
    """The newest finished run of a stage."""

    stage: str
    seconds: float
    rows_in: int
    rows_out: int
    quarantined: int


@dataclass(frozen=True)
class Health:
    """One measure of semantic IDs; level 0 is the whole ID, None an undefined value; control as in semantic.health."""

    entity: str
    metric: str
    level: int
    value: float | None
    control: str = OWN


@dataclass(frozen=True)
class NightlyHealth:
    """One measure of the codebook that the newest run of a day measured, of those that are or were published."""

    ds: date
    entity: str
    codebook_version: str
    metric: str
    level: int
    value: float | None


@dataclass(frozen=True)
class GateBin:
    """The gate of ids with impressions_from <= impressions < impressions_to, averaged over seeds."""

    variant: str
    entity: str
    impressions_from: int
    impressions_to: int
    ids: int
    mean: float
    p10: float
    p90: float


@dataclass(frozen=True)
class CurvePoint:
    """A training measure, averaged over neighbouring steps."""

    variant: str
    seed: int
    metric: str
    step: int
    value: float


@dataclass(frozen=True)
class Cost:
    """What it takes to train a variant once: means over seeds, and the largest memory of any.

    Attributes:
        parameters: trainable numbers.
        samples_per_second: of all ranks together, validation included.
        minutes: wall time.
        peak_gib: memory of the first rank.
        epoch: the epoch that was kept.
    """

    variant: str
    parameters: int
    samples_per_second: float
    minutes: float
    peak_gib: float
    epoch: float


def versions() -> dict[str, str | None]:
    """Versions of what the run is made of; None for a package that is not installed."""
    return {"python": platform.python_version()} | {name: _installed(package) for name, package in PACKAGES.items()}


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def finite(value: float | None) -> float | None:
    """The value, or None where it is NaN or infinite: JSON has neither."""
    return value if value is not None and math.isfinite(value) else None


def _of_run(ctx: Context, table: str) -> DataFrame | None:
    if not ctx.lake.exists(table):
        return None
    return ctx.lake.read(table).where(F.col("run_id") == ctx.run_id)


def sizes(ctx: Context, entity: str) -> list[int]:
    """Codes a level of the published codebook."""
    codebook = published(ctx.lake, entity) if ctx.lake.exists(CODEBOOKS) else None
    return list(codebook.sizes) if codebook else []


def stage_runs(ctx: Context) -> list[StageRun]:
    """Finished stages of this run in the order in which they ran; the report itself is not finished yet."""
    runs = _of_run(ctx, "ops.runs")
    if runs is None:
        return []
    newest = F.row_number().over(Window.partitionBy("stage").orderBy(F.desc("started_at")))
    rows = (
        runs.where((F.col("status") == "done") & (F.col("stage") != "report"))
        .withColumn("newest", newest)
        .where(F.col("newest") == 1)
        .orderBy("started_at")
        .select("stage", "seconds", "rows_in", "rows_out", "quarantined")
    )
    return [StageRun(*row) for row in rows.collect()]


def health(ctx: Context) -> list[Health]:
    """semantic.health of this run: of the published codebook, or of one that waits where that was not measured."""
    rows = _of_run(ctx, "semantic.health")
    if rows is None:
        return []
    books = ctx.lake.read(CODEBOOKS).where("status = 'published'").select("entity", "codebook_version", "status")
    serves = F.dense_rank().over(Window.partitionBy("entity").orderBy(F.col("status").desc_nulls_last()))
    rows = rows.join(books, on=["entity", "codebook_version"], how="left").withColumn("serves", serves)
    columns = ("entity", "metric", "level", "control")
    ordered = rows.where("serves = 1").orderBy(*columns).select(*columns, "value")
    return [
        Health(entity, metric, level, finite(value), control)
        for entity, metric, level, control, value in ordered.collect()
    ]


def health_over_nights(ctx: Context) -> list[NightlyHealth]:
    """semantic.health of codebooks that are or were published, over the last `NIGHTS` days up to this one."""
    if not ctx.lake.exists("semantic.health") or not ctx.lake.exists(CODEBOOKS):
        return []
    first = ctx.ds - timedelta(days=NIGHTS - 1)
    rows = ctx.lake.read("semantic.health").where(F.col("ds").between(F.lit(first), F.lit(ctx.ds)))
    books = ctx.lake.read(CODEBOOKS).where(F.col("status").isin("published", "retired"))  # a candidate never served
    rows = rows.join(books.select("entity", "codebook_version", "promoted_at"), on=["entity", "codebook_version"])
    earlier = -F.unix_micros("promoted_at")  # of two measured by a run, the other one waited
    newest = F.max_by(F.struct("codebook_version", "value"), F.struct("run_id", earlier))
    key = ("ds", "entity", "metric", "level")
    found = rows.where(F.col("control") == OWN).groupBy(*key).agg(newest.alias("newest")).select(*key, "newest.*")
    return [
        NightlyHealth(
            row["ds"], row["entity"], row["codebook_version"], row["metric"], row["level"], finite(row["value"])
        )
        for row in found.collect()
    ]


def gates(ctx: Context) -> list[GateBin]:
    """training.gates of this run; variants without a cluster part have no rows."""
    rows = _of_run(ctx, "training.gates")
    if rows is None:
        return []
    bins = ("variant", "entity", "impressions_from", "impressions_to")
    means = [F.avg(name).alias(name) for name in ("mean", "p10", "p90")]
    binned = rows.groupBy(*bins).agg(F.max("ids").alias("ids"), *means).where(F.col("ids") > 0).orderBy(*bins)
    return [GateBin(*row) for row in binned.collect()]


def costs(ctx: Context) -> list[Cost]:
    """training.checkpoints of this run."""
    rows = _of_run(ctx, "training.checkpoints")
    if rows is None:
        return []
    measures = {
        "parameters": F.max("parameters"),
        "samples_per_second": F.avg(F.try_divide("samples", "seconds")),
        "minutes": F.avg("seconds") / 60,
        "peak_gib": F.max("peak_gib"),
        "epoch": F.avg("epoch"),
    }
    grouped = rows.groupBy("variant").agg(*(measure.alias(name) for name, measure in measures.items()))
    return [Cost(**row.asDict()) for row in grouped.collect()]


def curves(ctx: Context) -> list[CurvePoint]:
    """training.curves of this run, thinned to about `CURVE_POINTS` a curve by averaging neighbouring steps."""
    rows = _of_run(ctx, "training.curves")
    if rows is None:
        return []
    last = rows.agg(F.max("step")).head()[0]
    if last is None:
        return []
    width = max(1, math.ceil(last / CURVE_POINTS))
    bucket = F.floor((F.col("step") - 1) / width)
    thinned = (
        rows.where(F.col("value").isNotNull() & ~F.isnan("value"))
        .groupBy("variant", "seed", "metric", bucket.alias("bucket"))
        .agg(F.max("step").alias("step"), F.avg("value").alias("value"))
        .orderBy("variant", "seed", "metric", "step")
        .select("variant", "seed", "metric", "step", "value")
    )
    return [CurvePoint(*row) for row in thinned.collect()]
