"""Item alignment: mines pairs, trains head or encoder on them, and lets it pass, or not."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from datetime import date

from akt_spark.config import Config, fingerprint
from akt_spark.content import registry
from akt_spark.content.alignment_batches import PairData
from akt_spark.content.artifacts import weights_hash
from akt_spark.content.candidates import refuse, trained_record
from akt_spark.content.coverage import coverage_note, pair_coverage
from akt_spark.content.driver import pair_data
from akt_spark.content.encoders import EncoderSpec
from akt_spark.content.head import ProjectionHead
from akt_spark.content.registry import EncoderRecord
from akt_spark.content.staged import HEAD, publish_tuned, stage_alignment
from akt_spark.content.train_staged import train_staged
from akt_spark.content.user_rows import held_out_user
from akt_spark.errors import DataError
from akt_spark.features.log import click_log
from akt_spark.features.pairs import item_pairs, positives_until
from akt_spark.stage import Context

PAIRS = "content.item_pairs"


def item_config_hash(config: Config, spec: EncoderSpec) -> str:
    """What an aligned item encoder depends on, apart from data and code."""
    left_out = config.interest.seed, config.interest.held_out_share
    return fingerprint(spec.revision, config.alignment.decisive, left_out)


def train_items(ctx: Context, raw: EncoderSpec, notes: list[str]) -> EncoderRecord:
    """Trains on the pairs of the training period, and registers what finds held-out pairs better than raw vectors do.

    Raises:
        DataError: when there are too few pairs.
        HealthGateError: when recall did not rise; the encoder is recorded as rejected.
    """
    started, config = time.monotonic(), ctx.config.alignment
    coverage = mine_pairs(ctx)
    data, item_ids, said = pair_data(ctx, raw.revision)
    notes += [*said, coverage_note(coverage)]
    _require_pairs(ctx, data)
    folder = stage_alignment(ctx, data, item_ids, raw)
    metrics = train_staged(ctx, folder, raw) | coverage
    config_hash = item_config_hash(ctx.config, raw)
    family, base, tuned = raw.family, raw.revision, None
    if config.method == "lora":
        spec = publish_tuned(ctx.lake, folder, raw)
        tuned = trained_record(ctx, "item", "tuned", spec.revision, raw.revision, spec.dim, config_hash, {})
        base = spec.revision
    head = ProjectionHead.load(folder / HEAD)
    revision = f"{family}-aligned-{fingerprint(base, weights_hash(head))[:12]}"
    encoder = trained_record(ctx, "item", "aligned", revision, base, config.dim, config_hash, metrics)
    found = _recalls(metrics, config.recall_at)
    passed = metrics["recall_aligned"] > metrics["recall_raw"]
    if passed:
        head.save(registry.model_folder(ctx.lake, revision))
        for record in filter(None, (tuned, encoder)):
            registry.record(ctx.lake, record)
    elif tuned:
        registry.record(ctx.lake, replace(tuned, status="rejected", path=None))
        if registry.tuned(ctx.lake, tuned.revision) is None:  # the same weights may have passed under another gate
            shutil.rmtree(registry.model_folder(ctx.lake, tuned.revision))
    shutil.rmtree(folder)
    if not passed:
        trained = "alignment.lora" if tuned else "alignment"
        learned_nothing = (
            f"alignment learned nothing; check that {' and '.join(config.pair_events)} events of the training period "
            f"reflect users' tastes, or change {trained}.learning_rate, {trained}.epochs or alignment.pair_gap_days"
        )
        no_room = f"among {len(item_ids):,} items nothing is left to find: lower alignment.recall_at"
        refuse(ctx, encoder, f"{found}: {no_room if metrics['recall_raw'] == 1 else learned_nothing}")
    notes.append(f"item encoder {revision}: {found}; {time.monotonic() - started:,.0f} s, epoch {metrics['epoch']:.0f}")
    if config.method == "lora" and metrics["recall_aligned"] <= metrics["recall_head"]:
        notes.append("a head alone finds as many pairs: alignment.method head costs less, every night")
    return encoder


def mine_pairs(ctx: Context) -> dict[str, float]:
    """Writes the pairs of the training period, without those of users held out; returns which items they cover."""
    config, last_day = ctx.config.alignment, ctx.config.split.train_end(ctx.ds)
    events = click_log(ctx)
    positives = positives_until(events, last_day, config.pair_events).where(~held_out_user(ctx.config.interest))
    ctx.lake.overwrite(PAIRS, item_pairs(positives, config))
    known = events.where(events["ds"] <= last_day)
    return pair_coverage(ctx.lake.read("bronze.items"), ctx.lake.read(PAIRS), known, ctx.config.segments.item)


def _require_pairs(ctx: Context, data: PairData) -> None:
    config = ctx.config.alignment
    train_end: date = ctx.config.split.train_end(ctx.ds)
    if len(data.held_out) < config.min_held_out or not len(data.train):
        raise DataError(
            f"{len(data.train)} pairs of {' and '.join(config.pair_events)} events to train on and "
            f"{len(data.held_out)} held out up to {train_end}; alignment.min_held_out asks for {config.min_held_out} "
            f"held out (alignment.held_out_share is {config.held_out_share:g}): load more history, or raise "
            "alignment.pair_gap_days or alignment.pair_window"
        )


def _recalls(metrics: dict[str, float], k: int) -> str:
    by_head = f", {metrics['recall_head']:.3f} with a head alone" if "recall_head" in metrics else ""
    how = "with the encoder tuned" if by_head else "aligned"
    return (
        f"recall@{k} of held-out pairs {metrics['recall_raw']:.3f} raw{by_head}, {metrics['recall_aligned']:.3f} {how}"
    )
