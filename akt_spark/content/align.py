"""The stage ``align_encoder``: an aligned item encoder and a user encoder for the day, trained or used again."""

from __future__ import annotations

from dataclasses import replace

from akt_spark.config import fingerprint
from akt_spark.content import registry
from akt_spark.content.align_items import item_config_hash, train_items
from akt_spark.content.align_users import train_users, user_config_hash
from akt_spark.content.encoders import EncoderSpec, encoder_spec
from akt_spark.content.items import embed_catalogue
from akt_spark.content.reading import reading_spec
from akt_spark.content.registry import EncoderRecord
from akt_spark.features.log import click_log
from akt_spark.features.pairs import positives_until
from akt_spark.stage import Context, Outcome


def run(ctx: Context) -> Outcome:
    """Makes sure that an aligned item encoder and a user encoder are registered for the day.

    Encoders of the same configuration that are at most ``alignment.refresh_days`` old are chosen again; otherwise new
    ones are trained on the training period. Only registered encoders are used by later stages.

    Raises:
        DataError: when there are too few pairs or users to train on.
        HealthGateError: when alignment does not raise recall, or users' vectors collapse; the encoder is recorded as
            rejected, and earlier ones stay in use.
    """
    raw, notes = encoder_spec(ctx.config.encoder), []
    item = _reuse(ctx, "item", item_config_hash(ctx.config, raw), notes)
    if item is None or item.base_revision == raw.revision:  # raw vectors are what it trains on, or reads
        notes[:0] = embed_catalogue(ctx, raw).notes
        registry.record(ctx.lake, _raw_record(ctx, raw))
    item = item or train_items(ctx, raw, notes)
    if item.base_revision != raw.revision:
        notes += embed_catalogue(ctx, reading_spec(ctx.lake, item, raw)).notes
    if _reuse(ctx, "user", user_config_hash(ctx.config, item), notes) is None:
        train_users(ctx, item, raw, notes)
    last_day = ctx.config.split.train_end(ctx.ds)
    positives = positives_until(click_log(ctx), last_day, ctx.config.alignment.pair_events)
    return Outcome(rows_in=positives.count(), rows_out=2, notes=notes)


def _reuse(ctx: Context, entity: str, config_hash: str, notes: list[str]) -> EncoderRecord | None:
    """Chooses a registered encoder that is young enough, if there is one."""
    train_end, days = ctx.config.split.train_end(ctx.ds), ctx.config.alignment.refresh_days
    found = registry.reusable(ctx.lake, entity, config_hash, train_end, days)
    if found is None:
        return None
    chosen = replace(found, ds=ctx.ds)
    registry.record(ctx.lake, chosen)
    notes.append(
        f"{entity} encoder {chosen.revision}, trained until {chosen.trained_until}, is used again: "
        f"not older than {days} days; nothing was trained"
    )
    return chosen


def _raw_record(ctx: Context, spec: EncoderSpec) -> EncoderRecord:
    return EncoderRecord(
        revision=spec.revision,
        entity="item",
        stage="raw",
        family=spec.family,
        base_revision=None,
        path=None,
        dim=spec.dim,
        trained_until=None,
        config_hash=fingerprint(spec.revision),
        metrics={},
        ds=ctx.ds,
    )
