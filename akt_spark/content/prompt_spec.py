"""A trained prompt user model as a spec that travels to workers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from akt_spark.config import InterestConfig
from akt_spark.content import registry
from akt_spark.content.artifacts import load_model
from akt_spark.content.encoders import Encoder, EncoderSpec
from akt_spark.content.prompt_interest import KIND, PromptEncoder, PromptInterest, base_fingerprint
from akt_spark.content.registry import EncoderRecord
from akt_spark.errors import MissingInput
from akt_spark.lake import Lake


@dataclass(frozen=True)
class PromptSpec:
    """The encoder whose language model it uses, and the folder of what was trained.

    Attributes:
        base: the encoder of items.
        folder: the same path on every worker.
        revision: as registered.
        dim: length of a vector.
        config: what prompts hold, as in training: an embedding run's configuration does not change it.
    """

    base: EncoderSpec
    folder: str
    revision: str
    dim: int
    config: InterestConfig
    use_images: bool = False

    @property
    def family(self) -> str:
        """That of the base."""
        return self.base.family

    @property
    def made_of(self) -> dict[str, Any]:
        """All that a vector depends on."""
        return load_model(self.folder)[1]

    def load(self, device: str = "cpu") -> Encoder:
        """Loads the language model, and adds what was trained."""
        return PromptEncoder(PromptInterest.load(self.base, device, self.folder), self.revision)


def prompt_spec(lake: Lake, encoder: EncoderRecord, base: EncoderSpec) -> PromptSpec | None:
    """The spec of a registered user encoder; None where that is a transformer.

    Raises:
        MissingInput: when its folder is gone, or it was trained on another language model than the configured one.
    """
    folder = registry.model_folder(lake, encoder.revision)
    if not folder.is_dir():
        raise MissingInput(
            registry.TABLE, "align_encoder", f"has user encoder {encoder.revision}, whose folder is gone"
        )
    _, about = load_model(folder)
    if about["kind"] != KIND:
        return None
    if about["base"] != base_fingerprint(base):
        detail = f"has user encoder {encoder.revision}, whose language model is not that of the configured encoder"
        raise MissingInput(registry.TABLE, "align_encoder", detail)
    config = InterestConfig.model_validate(about["reads"])
    return PromptSpec(base, str(folder), encoder.revision, about["dim"], config)
