"""The register of encoders: an append-only log with one row for every time that a run chose, or rejected, one.

A later day may choose an earlier encoder again, so the newest row tells which one is in use; a rerun of an early day
never sees the encoders that later days trained.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from pyspark.sql import functions as F

from akt_spark.errors import MissingInput
from akt_spark.lake import Lake

TABLE = "content.encoders"


@dataclass(frozen=True)
class EncoderRecord:
    """One row of ``content.encoders``; its schema says what the fields mean."""

    revision: str
    entity: str
    stage: str
    family: str
    base_revision: str | None
    path: str | None
    dim: int
    trained_until: date | None
    config_hash: str
    metrics: dict[str, float]
    ds: date
    status: str = "registered"


def model_folder(lake: Lake, revision: str) -> Path:
    """Where the weights of a trained encoder lie; every executor reads them there."""
    return lake.artifact("encoders", revision)


def record(lake: Lake, encoder: EncoderRecord) -> None:
    """Writes that the run of ``encoder.ds`` chose, or rejected, this encoder."""
    row = asdict(encoder) | {"chosen_at": datetime.now(UTC)}
    lake.append(TABLE, lake.spark.createDataFrame([row], schema=lake.schema(TABLE)))


def current(lake: Lake, entity: str, ds: date) -> EncoderRecord:
    """The aligned encoder that the newest run up to ``ds`` chose for 'item' or 'user'.

    Raises:
        MissingInput: when no run has registered one.
    """
    rows = (
        lake.read(TABLE)
        .where((F.col("entity") == entity) & (F.col("stage") == "aligned") & (F.col("status") == "registered"))
        .where(F.col("ds") <= F.lit(ds))
        .orderBy(F.desc("ds"), F.desc("chosen_at"))
        .drop("chosen_at")
        .head(1)
    )
    if not rows:
        raise MissingInput(TABLE, "align_encoder", f"has no registered {entity} encoder up to {ds}")
    return EncoderRecord(**rows[0].asDict())


def tuned(lake: Lake, revision: str | None) -> EncoderRecord | None:
    """The registered tuned encoder of a revision; None where that is of no tuned one."""
    of_revision = (F.col("revision") == F.lit(revision)) & (F.col("stage") == "tuned")
    rows = lake.read(TABLE).where(of_revision & (F.col("status") == "registered")).drop("chosen_at").head(1)
    return EncoderRecord(**rows[0].asDict()) if rows else None


def current_revision(lake: Lake, entity: str, ds: date) -> str:
    """Revision of the `current` encoder: the one whose rows in ``content.<entity>_embeddings`` are to be used."""
    return current(lake, entity, ds).revision


def reusable(lake: Lake, entity: str, config_hash: str, train_end: date, refresh_days: int) -> EncoderRecord | None:
    """The newest registered encoder of this configuration trained until at most ``refresh_days`` before ``train_end``.

    Never one that has seen later days; none whose folder, or that of the tuned encoder below it, is gone.
    """
    lake.register(TABLE)
    fits = (
        (F.col("entity") == entity)
        & (F.col("stage") == "aligned")
        & (F.col("status") == "registered")
        & (F.col("config_hash") == config_hash)
        & F.col("trained_until").between(F.lit(train_end - timedelta(days=refresh_days)), F.lit(train_end))
    )
    rows = lake.read(TABLE).where(fits).orderBy(F.desc("trained_until"), F.desc("chosen_at")).drop("chosen_at")
    for row in rows.limit(10).collect():
        encoder = EncoderRecord(**row.asDict())
        needed = filter(None, (encoder, tuned(lake, encoder.base_revision)))
        if all(model_folder(lake, one.revision).is_dir() for one in needed):
            return encoder
    return None
