"""Which encoder reads texts and images for an aligned one: the configured encoder, or a tuned one on top of it."""

from __future__ import annotations

from akt_spark.content import registry
from akt_spark.content.encoders import EncoderSpec
from akt_spark.content.encoders.tuned import TunedSpec
from akt_spark.content.registry import EncoderRecord
from akt_spark.errors import MissingInput
from akt_spark.lake import Lake


def reading_spec(lake: Lake, aligned: EncoderRecord, raw: EncoderSpec) -> EncoderSpec:
    """The encoder whose vectors an aligned encoder projects.

    Raises:
        MissingInput: when that is neither the configured encoder nor one tuned from it, or its folder is gone.
    """
    if aligned.base_revision == raw.revision:
        return raw
    record = registry.tuned(lake, aligned.base_revision)
    if record is not None and record.base_revision == raw.revision:
        folder = registry.model_folder(lake, record.revision)  # not the recorded path: it holds when a lake has moved
        if folder.is_dir():
            spec = TunedSpec.read(raw, folder)
            if spec.revision == record.revision:
                return spec
    detail = f"has no item encoder that belongs to {raw.revision}, the configured encoder"
    raise MissingInput(registry.TABLE, "align_encoder", detail)
