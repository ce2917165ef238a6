"""Models that a run has trained: how they are recorded, and what becomes of them at their gate."""

from __future__ import annotations

from dataclasses import replace

from akt_spark.content import registry
from akt_spark.content.registry import EncoderRecord
from akt_spark.errors import HealthGateError
from akt_spark.stage import Context


def trained_record(
    ctx: Context, entity: str, stage: str, revision: str, base: str, dim: int, config_hash: str, metrics: dict
) -> EncoderRecord:
    """The record of a model that this run trained on the training period, on top of revision ``base``."""
    return EncoderRecord(
        revision=revision,
        entity=entity,
        stage=stage,
        family=ctx.config.encoder.family,
        base_revision=base,
        path=str(registry.model_folder(ctx.lake, revision)),
        dim=dim,
        trained_until=ctx.config.split.train_end(ctx.ds),
        config_hash=config_hash,
        metrics=metrics,
        ds=ctx.ds,
    )


def refuse(ctx: Context, encoder: EncoderRecord, reason: str) -> None:
    """Records an encoder that did not pass its gate.

    Raises:
        HealthGateError: always; what is registered stays in use.
    """
    registry.record(ctx.lake, replace(encoder, status="rejected", path=None))
    raise HealthGateError(f"{encoder.entity} encoder {encoder.revision} rejected: {reason}")
