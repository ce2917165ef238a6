"""The stage ``align_encoder``: trains the projection head of items and the interest model of users, behind gates."""

from __future__ import annotations

from akt_spark.config import Config, fingerprint
from akt_spark.content import registry
from akt_spark.content.alignment import PairData, train_head
from akt_spark.content.artifacts import weights_hash
from akt_spark.content.driver import click_data, pair_data
from akt_spark.content.encoders import EncoderSpec, encoder_spec
from akt_spark.content.head import ProjectionHead
from akt_spark.content.interest import InterestModel
from akt_spark.content.interest_training import train_interest
from akt_spark.content.items import embed_catalogue
from akt_spark.content.registry import EncoderRecord
from akt_spark.errors import DataError, HealthGateError
from akt_spark.features.pairs import clicks_until, co_click_pairs
from akt_spark.stage import Context, Outcome

PAIRS = "content.item_pairs"


def run(ctx: Context) -> Outcome:
    """Makes sure that an aligned item encoder and a user encoder are registered for the day.

    Encoders of the same configuration that are at most ``alignment.refresh_days`` old are chosen again; otherwise new
    ones are trained on the training period. Only registered encoders are used by later stages.

    Raises:
        DataError: when there are too few pairs or users to train on.
        HealthGateError: when alignment does not raise recall, or users' vectors collapse; the encoder is recorded as
            rejected, and earlier ones stay in use.
    """
    spec = encoder_spec(ctx.config.encoder)
    embedded = embed_catalogue(ctx, spec)
    registry.record(ctx.lake, _raw_record(ctx, spec))
    notes = list(embedded.notes)
    item = _reuse(ctx, "item", item_config_hash(ctx.config, spec), notes) or _train_item(ctx, spec, notes)
    _reuse(ctx, "user", user_config_hash(ctx.config, item), notes) or _train_user(ctx, item, notes)
    clicks = clicks_until(ctx.lake.read("bronze.events"), ctx.config.split.train_end(ctx.ds)).count()
    return Outcome(rows_in=clicks, rows_out=2, notes=notes)


def item_config_hash(config: Config, spec: EncoderSpec) -> str:
    """What an aligned item encoder depends on, apart from data and code."""
    return fingerprint(spec.revision, config.alignment.model_dump(exclude={"refresh_days"}))


def user_config_hash(config: Config, item: EncoderRecord) -> str:
    """What a user encoder depends on, apart from data and code."""
    return fingerprint(item.revision, config.interest.model_dump(), config.alignment.recall_at)


def _reuse(ctx: Context, entity: str, config_hash: str, notes: list[str]) -> EncoderRecord | None:
    """Chooses a registered encoder that is young enough, if there is one."""
    train_end, days = ctx.config.split.train_end(ctx.ds), ctx.config.alignment.refresh_days
    found = registry.reusable(ctx.lake, entity, config_hash, train_end, days)
    if found is None:
        return None
    chosen = EncoderRecord(**(vars(found) | {"ds": ctx.ds}))
    registry.record(ctx.lake, chosen)
    notes.append(
        f"{entity} encoder {chosen.revision}, trained until {chosen.trained_until}, is used again: "
        f"not older than {days} days; nothing was trained"
    )
    return chosen


def _train_item(ctx: Context, spec: EncoderSpec, notes: list[str]) -> EncoderRecord:
    """Mines pairs, trains the head, and registers it if it finds held-out pairs better than the raw vectors do."""
    config, train_end = ctx.config.alignment, ctx.config.split.train_end(ctx.ds)
    clicks = clicks_until(ctx.lake.read_rows("bronze.events"), train_end)
    ctx.lake.overwrite(PAIRS, co_click_pairs(clicks, config))
    data, coverage, data_notes = pair_data(ctx, spec.revision, clicks)
    notes += data_notes
    _require_pairs(ctx, data)
    head, metrics = train_head(data, config)
    encoder = _record(ctx, "item", spec.revision, head, item_config_hash(ctx.config, spec), metrics | coverage)
    k, raw, aligned = config.recall_at, metrics["recall_raw"], metrics["recall_aligned"]
    _gate(
        ctx,
        encoder,
        head,
        passed=aligned > raw,
        reason=f"aligned vectors find {aligned:.1%} of held-out pairs among {k} neighbours, raw vectors {raw:.1%}: "
        "alignment learned nothing; check that clicks of the training period reflect users' tastes, or change "
        "alignment.learning_rate, alignment.epochs or alignment.pair_gap_days",
    )
    notes.append(f"item encoder {encoder.revision}: recall@{k} of held-out pairs {raw:.3f} raw, {aligned:.3f} aligned")
    return encoder


def _train_user(ctx: Context, item: EncoderRecord, notes: list[str]) -> EncoderRecord:
    """Trains the interest model over aligned vectors, and registers it unless it has collapsed."""
    config = ctx.config.interest
    head = ProjectionHead.load(registry.model_folder(ctx.lake, item.revision))
    data = click_data(ctx, item, head)
    if data.held_out.all() or not data.held_out.any():
        raise DataError(
            f"the interest model needs users with at least 2 clicks, some to train on and some held out; there are "
            f"{len(data.histories)} up to {ctx.config.split.train_end(ctx.ds)}: load more click history, or change "
            f"interest.held_out_share ({config.held_out_share:g})"
        )
    model, metrics = train_interest(data, config, ctx.config.alignment.recall_at)
    encoder = _record(ctx, "user", item.revision, model, user_config_hash(ctx.config, item), metrics)
    ratio, floor = metrics["variance_ratio"], config.min_variance_ratio
    _gate(
        ctx,
        encoder,
        model,
        passed=ratio >= floor,
        reason=f"users' vectors have {ratio:.2f} of the variance of items' vectors, interest.min_variance_ratio is "
        f"{floor:g}: the model has collapsed; lower interest.learning_rate or interest.temperature, or lower the gate",
    )
    notes.append(
        f"user encoder {encoder.revision}: recall@{ctx.config.alignment.recall_at} of the next click of "
        f"{metrics['held_out_users']:,.0f} held-out users {metrics['recall_interest']:.3f}, mean of clicks "
        f"{metrics['recall_mean_pooled']:.3f}; variance {ratio:.2f} of that of items"
    )
    return encoder


def _require_pairs(ctx: Context, data: PairData) -> None:
    config, train_end = ctx.config.alignment, ctx.config.split.train_end(ctx.ds)
    if len(data.held_out) < config.min_held_out or not len(data.train):
        raise DataError(
            f"{len(data.train)} co-click pairs to train on and {len(data.held_out)} held out up to {train_end}; "
            f"alignment.min_held_out asks for {config.min_held_out} held out (alignment.held_out_share is "
            f"{config.held_out_share:g}): load more click history, or raise alignment.pair_gap_days or "
            "alignment.pair_window"
        )


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


def _record(
    ctx: Context,
    entity: str,
    base_revision: str,
    model: ProjectionHead | InterestModel,
    config_hash: str,
    metrics: dict[str, float],
) -> EncoderRecord:
    """The record of a model trained now; its revision holds a hash of its weights and of what feeds it."""
    family = ctx.config.encoder.family
    name = f"{family}-{'aligned' if entity == 'item' else 'interest'}"
    revision = f"{name}-{fingerprint(base_revision, weights_hash(model))[:12]}"
    return EncoderRecord(
        revision=revision,
        entity=entity,
        stage="aligned",
        family=family,
        base_revision=base_revision,
        path=str(registry.model_folder(ctx.lake, revision)),
        dim=ctx.config.alignment.dim,
        trained_until=ctx.config.split.train_end(ctx.ds),
        config_hash=config_hash,
        metrics=metrics,
        ds=ctx.ds,
    )


def _gate(
    ctx: Context, encoder: EncoderRecord, model: ProjectionHead | InterestModel, passed: bool, reason: str
) -> None:
    """Saves and registers a model that passed; records one that did not, and refuses it."""
    if not passed:
        registry.record(ctx.lake, EncoderRecord(**(vars(encoder) | {"status": "rejected", "path": None})))
        raise HealthGateError(f"{encoder.entity} encoder {encoder.revision} rejected: {reason}")
    model.save(registry.model_folder(ctx.lake, encoder.revision))
    registry.record(ctx.lake, encoder)
