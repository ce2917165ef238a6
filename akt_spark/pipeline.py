"""The stages in order, what each reads and writes, and how one is run, recorded or skipped."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache, reduce
from importlib import import_module
from operator import getitem
from pathlib import Path

from pyspark.sql import SparkSession

from akt_spark.config import fingerprint
from akt_spark.errors import AktError
from akt_spark.lake import SCHEMAS
from akt_spark.ledger import Ledger, Record
from akt_spark.revision import source_revision
from akt_spark.sources.fingerprint import source_fingerprint
from akt_spark.stage import Context, Outcome

LOG = ("bronze.events", "bronze.planted")
CUT = ("planted", "split", "segments.item.exposures", "segments.user.exposures")  # what the log is cut by
BRONZE = (*LOG, "bronze.items", "bronze.users")
ACTIVITY = ("features.item_activity", "features.user_activity")
INDICES = ("features.item_index", "features.user_index")
RAW_ENCODERS = "content.raw_encoders"
GROWING = (*INDICES, RAW_ENCODERS)
EMBEDDINGS = ("content.item_embeddings", "content.user_embeddings")
SEMANTIC_IDS = ("semantic.codebooks", "semantic.item_ids", "semantic.user_ids")
LOOKUPS = ("training.samples", "training.items", "training.users")


@dataclass(frozen=True)
class Stage:
    """One step of a night.

    Attributes:
        name: also the name of its job.
        entry: ``module:function``, imported when the stage runs, so that a job loads only what it needs.
        reads: tables whose versions decide whether there is anything to do.
        writes: tables it writes.
        config_keys: parts of the configuration that it depends on, as sections or single keys.
    """

    name: str
    entry: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    config_keys: tuple[str, ...]

    def run(self, ctx: Context) -> Outcome:
        """Imports and calls the entry."""
        module, function = self.entry.split(":")
        run: Callable[[Context], Outcome] = getattr(import_module(module), function)
        return run(ctx)


STAGES = (
    Stage(
        "ingest",
        "akt_spark.sources.ingest:run",
        (),
        (*BRONZE, "bronze.quarantine", *INDICES),
        ("source", "ingest", *CUT),
    ),
    Stage("build_activity", "akt_spark.features.activity:run", LOG, ACTIVITY, CUT),
    Stage(
        "build_sequences",
        "akt_spark.features.sequences:run",
        LOG,
        ("features.user_sequences",),
        ("features", *CUT),
    ),
    Stage(
        "align_encoder",
        "akt_spark.content.align:run",
        BRONZE,
        ("content.item_pairs", "content.encoders", RAW_ENCODERS),
        (*CUT, "segments", "encoder", "alignment", "interest"),
    ),
    Stage(
        "embed",
        "akt_spark.content.embed:run",
        (*BRONZE, "content.encoders"),
        (*EMBEDDINGS, RAW_ENCODERS),
        (*CUT, "encoder", "interest"),
    ),
    Stage(
        "build_semantic_ids",
        "akt_spark.semantic.publish:run",
        (*ACTIVITY, *INDICES, *EMBEDDINGS, "content.encoders", "content.item_pairs", "bronze.items"),
        (*SEMANTIC_IDS, "semantic.health", "semantic.churn", "bronze.quarantine"),
        ("split", "segments", "semantic"),
    ),
    Stage(
        "build_samples",
        "akt_spark.features.samples:run",
        (*BRONZE, *ACTIVITY, *INDICES, "content.encoders", *EMBEDDINGS, *SEMANTIC_IDS),
        LOOKUPS,
        (*CUT, "features", "segments", "samples", "training.ranks"),
    ),
    Stage(
        "train_ranker",
        "akt_spark.training.train:run",
        LOOKUPS,
        ("training.checkpoints", "training.curves", "training.gates"),
        ("ranker", "training"),
    ),
    Stage(
        "score",
        "akt_spark.training.score:run",
        (*LOOKUPS, "training.checkpoints"),
        ("serving.predictions",),
        (),
    ),
    Stage(
        "evaluate",
        "akt_spark.evaluation.evaluate:run",
        (*LOOKUPS, "bronze.planted", "serving.predictions"),
        ("evaluation.metrics", "evaluation.differences"),
        ("evaluation", "segments", "planted"),
    ),
    Stage(
        "report",
        "akt_spark.evaluation.report:run",
        (
            "evaluation.metrics",
            "evaluation.differences",
            "semantic.health",
            "semantic.item_ids",
            "training.curves",
            "training.gates",
            "bronze.items",
        ),
        (),
        ("evaluation", "report"),
    ),
)


def stage(name: str) -> Stage:
    """The stage of a name."""
    return next(stage for stage in STAGES if stage.name == name)


@cache
def code_revision() -> str:
    """Revision of the package and the schemas."""
    return source_revision(Path(__file__).resolve().parent, SCHEMAS)


def run_stage(ctx: Context, ledger: Ledger, stage: Stage) -> Record:
    """Runs a stage and records it, or finds that a run with equal inputs, configuration and code is done.

    The stage reads its inputs at the versions that they have now, whatever other runs commit meanwhile.

    Raises:
        AktError: what the stage raised, after it was recorded.
    """
    started, clock = datetime.now(UTC), time.monotonic()
    inputs = {table: ctx.lake.version(table) for table in stage.reads}
    lake = ctx.lake.pinned(inputs)
    identity = _identity(ctx, stage, inputs)
    done = ledger.done(stage.name, identity)
    if done is not None and _outputs_stand(ctx, done.outputs) and _files_stand(ctx, stage):
        return done.skipped(started)

    def record(status: str, outcome: Outcome, error: str | None = None) -> Record:
        return Record(
            run_id=ctx.run_id,
            stage=stage.name,
            ds=ctx.ds,
            status=status,
            fingerprint=identity,
            code_revision=code_revision(),
            config=ctx.config.model_dump_json(),
            inputs=inputs,
            outputs={table: lake.committed.get(table, lake.version(table)) for table in stage.writes},
            rows_in=outcome.rows_in,
            rows_out=outcome.rows_out,
            quarantined=outcome.quarantined,
            seconds=round(time.monotonic() - clock, 2),
            notes=outcome.notes,
            error=error,
            started_at=started,
        )

    try:
        outcome = stage.run(replace(ctx, lake=lake))
    except Exception as error:
        if _stopped(ctx.spark):  # nothing can be recorded, and what is raised seldom says why
            first = next(iter(str(error).splitlines()), type(error).__name__)
            raise AktError(
                f"{stage.name}: Spark stopped in the middle ({first}), most likely for want of memory (see above): "
                "give it more, say spark-submit --driver-memory 4g, and run this again; finished stages are kept"
            ) from error
        ledger.append(record("failed", Outcome(), str(error)[:10_000]))
        raise
    finished = record("done", outcome)
    ledger.append(finished)
    return finished


def _stopped(spark: SparkSession) -> bool:
    try:
        return bool(spark.sparkContext._jsc.sc().isStopped())
    except Exception:  # not even the JVM answers
        return True


def after(ctx: Context, record: Record) -> Context:
    """What the next stage of the same run sees: the tables as this one read and left them.

    So all stages of a night see one state, also when another night commits in between. What only grows is never held
    back: the dense indices, of which a table may speak of the newest id, and the record of raw encoders.
    """
    pins = ctx.lake.pins | record.inputs | record.outputs
    return replace(ctx, lake=ctx.lake.pinned({table: pins[table] for table in pins if table not in GROWING}))


def _identity(ctx: Context, stage: Stage, inputs: Mapping[str, int]) -> str:
    config = ctx.config.model_dump(mode="json")
    depends_on = {key: reduce(getitem, key.split("."), config) for key in stage.config_keys}
    return fingerprint(stage.name, ctx.ds.isoformat(), depends_on, inputs, _files(ctx, stage), code_revision())


def _files(ctx: Context, stage: Stage) -> str | None:
    """A hash over the files that a stage reads beside tables: raw data, or the model that the encoder is."""
    if stage.name == "ingest":
        return source_fingerprint(ctx.config, ctx.ds)
    if "encoder" in stage.config_keys and ctx.config.encoder.model:
        from akt_spark.content.encoders.weights import model_fingerprint  # only where there is a model to look at

        return model_fingerprint(ctx.config.encoder.model)
    return None


def _outputs_stand(ctx: Context, outputs: Mapping[str, int]) -> bool:
    """Whether no output was deleted or restored to an older version since."""
    return all(ctx.lake.version(table) >= version for table, version in outputs.items())


def _files_stand(ctx: Context, stage: Stage) -> bool:
    return stage.name != "report" or Path(ctx.config.report.path, "index.html").is_file()
