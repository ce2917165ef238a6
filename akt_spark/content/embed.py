"""The stage ``embed``: brings the vectors of all items and users up to date, incrementally."""

from __future__ import annotations

from akt_spark.content import registry
from akt_spark.content.encoders import encoder_spec
from akt_spark.content.items import embed_catalogue, project_catalogue
from akt_spark.content.reading import reading_spec
from akt_spark.content.users import embed_users
from akt_spark.errors import MissingInput
from akt_spark.stage import Context, Outcome


def run(ctx: Context) -> Outcome:
    """Encodes what is new or has changed: raw (or tuned) item vectors, aligned item vectors, user vectors.

    Raises:
        MissingInput: when no aligned encoder is registered, or it was aligned on another raw encoder than configured.
        DataError: when too many items or users could not be encoded.
    """
    item, user = (registry.current(ctx.lake, entity, ctx.ds) for entity in ("item", "user"))
    raw = encoder_spec(ctx.config.encoder)
    spec = reading_spec(ctx.lake, item, raw)
    if user.base_revision != item.revision:
        detail = f"has no user encoder that belongs to {item.revision}, the item encoder in use"
        raise MissingInput(registry.TABLE, "align_encoder", detail)
    steps = [embed_catalogue(ctx, spec), project_catalogue(ctx, item), embed_users(ctx, user, raw)]
    notes = [note for step in steps for note in step.notes]
    looked_at = sum(ctx.lake.read(table).count() for table in ("bronze.items", "bronze.users"))
    return Outcome(rows_in=looked_at, rows_out=steps[1].rows + steps[2].rows, notes=notes)
