"""The stage ``embed``: brings the vectors of all items and users up to date, incrementally."""

from __future__ import annotations

from akt_spark.content import registry
from akt_spark.content.encoders import encoder_spec
from akt_spark.content.items import embed_catalogue, project_catalogue
from akt_spark.content.users import embed_users
from akt_spark.errors import MissingInput
from akt_spark.stage import Context, Outcome


def run(ctx: Context) -> Outcome:
    """Encodes what is new or has changed: raw item vectors, aligned item vectors, user vectors.

    Raises:
        MissingInput: when no aligned encoder is registered, or it was aligned on another raw encoder than configured.
        DataError: when too many items could not be encoded.
    """
    spec = encoder_spec(ctx.config.encoder)
    item, user = (registry.current(ctx.lake, entity, ctx.ds) for entity in ("item", "user"))
    if item.base_revision != spec.revision or user.base_revision != item.revision:
        detail = f"has no item and user encoder that belong together and to {spec.revision}, the configured encoder"
        raise MissingInput(registry.TABLE, "align_encoder", detail)
    steps = [embed_catalogue(ctx, spec), project_catalogue(ctx, item), embed_users(ctx, user)]
    notes = [note for step in steps for note in step.notes]
    looked_at = sum(ctx.lake.read(table).count() for table in ("bronze.items", "bronze.users"))
    return Outcome(rows_in=looked_at, rows_out=steps[1].rows + steps[2].rows, notes=notes)
