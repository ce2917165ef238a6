"""User alignment: trains the interest model over aligned vectors, and lets it pass, or not."""

from __future__ import annotations

from akt_spark.config import Config, fingerprint
from akt_spark.content import registry
from akt_spark.content.artifacts import weights_hash
from akt_spark.content.candidates import refuse, trained_record
from akt_spark.content.driver import click_data
from akt_spark.content.head import ProjectionHead
from akt_spark.content.interest_training import train_interest
from akt_spark.content.registry import EncoderRecord
from akt_spark.errors import DataError
from akt_spark.stage import Context


def user_config_hash(config: Config, item: EncoderRecord) -> str:
    """What a user encoder depends on, apart from data and code."""
    return fingerprint(item.revision, config.interest.model_dump(), config.alignment.recall_at)


def train_users(ctx: Context, item: EncoderRecord, notes: list[str]) -> EncoderRecord:
    """Trains the interest model over aligned vectors, and registers it unless it has collapsed.

    Raises:
        DataError: when there are too few users.
        HealthGateError: when users' vectors collapse; the encoder is recorded as rejected.
    """
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
    revision = f"{ctx.config.encoder.family}-interest-{fingerprint(item.revision, weights_hash(model))[:12]}"
    encoder = trained_record(
        ctx,
        "user",
        "aligned",
        revision,
        item.revision,
        ctx.config.alignment.dim,
        user_config_hash(ctx.config, item),
        metrics,
    )
    ratio, floor = metrics["variance_ratio"], config.min_variance_ratio
    if not ratio >= floor:
        refuse(
            ctx,
            encoder,
            f"users' vectors have {ratio:.2f} of the variance of items' vectors, interest.min_variance_ratio is "
            f"{floor:g}: the model has collapsed; lower interest.learning_rate or interest.temperature, or lower the "
            "gate",
        )
    model.save(registry.model_folder(ctx.lake, revision))
    registry.record(ctx.lake, encoder)
    notes.append(
        f"user encoder {encoder.revision}: recall@{ctx.config.alignment.recall_at} of the next click of "
        f"{metrics['held_out_users']:,.0f} held-out users {metrics['recall_interest']:.3f}, mean of clicks "
        f"{metrics['recall_mean_pooled']:.3f}; variance {ratio:.2f} of that of items"
    )
    return encoder
