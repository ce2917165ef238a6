"""User alignment: trains the user model over aligned vectors, and lets it pass, or not."""

from __future__ import annotations

from akt_spark.config import Config, fingerprint
from akt_spark.content import registry
from akt_spark.content.artifacts import weights_hash
from akt_spark.content.candidates import refuse, trained_record
from akt_spark.content.driver import click_data, prompt_data
from akt_spark.content.encoders import EncoderSpec
from akt_spark.content.head import ProjectionHead
from akt_spark.content.interest import InterestModel
from akt_spark.content.interest_training import train_interest
from akt_spark.content.next_click import ClickData
from akt_spark.content.prompt_interest import PromptInterest
from akt_spark.content.prompt_training import train_prompt
from akt_spark.content.registry import EncoderRecord
from akt_spark.errors import DataError
from akt_spark.stage import Context

DESIGNED_VARIANCE = 0.5  # what method.md 3 asks of a user model; the gate is configured


def user_config_hash(config: Config, item: EncoderRecord) -> str:
    """What a user encoder depends on, apart from data and code."""
    return fingerprint(item.revision, config.interest.decisive, config.alignment.recall_at)


def train_users(ctx: Context, item: EncoderRecord, raw: EncoderSpec, notes: list[str]) -> EncoderRecord:
    """Trains the configured user model over aligned vectors, and registers it unless it has collapsed.

    Raises:
        ConfigError: when the prompt model cannot be used with this encoder.
        DataError: when there are too few users.
        HealthGateError: when users' vectors collapse; the encoder is recorded as rejected.
    """
    config = ctx.config.interest
    model, revision, metrics = _train(ctx, item, raw)
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
            f"{floor:g}: the model has collapsed; lower interest.learning_rate or interest.temperature, "
            f"{'set interest.loss to infonce, ' if config.loss == 'cosine' else ''}or lower the gate",
        )
    model.save(registry.model_folder(ctx.lake, revision))
    registry.record(ctx.lake, encoder)
    notes += _notes(revision, metrics, ctx.config)
    return encoder


def _train(
    ctx: Context, item: EncoderRecord, raw: EncoderSpec
) -> tuple[InterestModel | PromptInterest, str, dict[str, float]]:
    """The model, its revision, and its measures."""
    config, recall_at = ctx.config.interest, ctx.config.alignment.recall_at
    head, family = ProjectionHead.load(registry.model_folder(ctx.lake, item.revision)), ctx.config.encoder.family
    if config.model == "prompt":
        told = prompt_data(ctx, item, head)
        _require_users(ctx, told.clicks)
        prompt, metrics = train_prompt(told, raw, config, ctx.config.encoder, recall_at)
        return prompt, f"{family}-prompt-{fingerprint(item.revision, prompt.content_hash())[:12]}", metrics
    data = click_data(ctx, item, head)
    _require_users(ctx, data)
    model, metrics = train_interest(data, config, recall_at)
    return model, f"{family}-interest-{fingerprint(item.revision, weights_hash(model))[:12]}", metrics


def _require_users(ctx: Context, data: ClickData) -> None:
    if data.held_out.all() or not data.held_out.any():
        raise DataError(
            f"the interest model needs users with at least 2 clicks, some to train on and some held out; there are "
            f"{len(data.histories)} up to {ctx.config.split.train_end(ctx.ds)}: load more click history, or change "
            f"interest.held_out_share ({ctx.config.interest.held_out_share:g})"
        )


def _notes(revision: str, metrics: dict[str, float], config: Config) -> list[str]:
    substitute = ""
    if "recall_transformer" in metrics:
        substitute = f", of the transformer {metrics['recall_transformer']:.3f}"
    ratio = metrics["variance_ratio"]
    below = "" if ratio >= DESIGNED_VARIANCE else f", below the {DESIGNED_VARIANCE:g} of the method's design"
    notes = [
        f"user encoder {revision}: recall@{config.alignment.recall_at} of the next click of "
        f"{metrics['held_out_users']:,.0f} held-out users {metrics['recall_interest']:.3f}{substitute}, mean of clicks "
        f"{metrics['recall_mean_pooled']:.3f}; variance {ratio:.2f} of that of items{below} "
        f"(interest.min_variance_ratio is {config.interest.min_variance_ratio:g})"
    ]
    if metrics["recall_interest"] < metrics["recall_mean_pooled"]:
        notes.append(
            "the mean of a user's clicks finds more next clicks than the model: more users (interest.max_users) "
            "or epochs (interest.epochs) may help"
        )
    if metrics["recall_interest"] < metrics.get("recall_transformer", 0.0):
        notes.append("the transformer finds more next clicks: interest.model transformer costs less, every night")
    return notes
