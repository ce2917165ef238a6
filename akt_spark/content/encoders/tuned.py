"""An encoder with trained adapters: one more spec, whose revision also depends on them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from akt_spark.config import fingerprint
from akt_spark.content.artifacts import load_model, state_hash
from akt_spark.content.encoders import DerivedSpec, Encoder, EncoderSpec
from akt_spark.content.encoders.lora import load_adapters
from akt_spark.content.statistics import text_fingerprint

STATISTICS = "statistics"  # Parquet in the model's folder: item_id, statistics


@dataclass(frozen=True)
class TunedSpec(DerivedSpec):
    """A base encoder and the folder of its adapters.

    Attributes:
        base: the encoder that was tuned.
        folder: holds the adapters, and the statistics that its prompts tell; the same path on every worker.
        content: hash of the adapters' weights.
        trained_until: last day whose events it knows.
        statistics: hash of the statistics in the prompts; None where they tell none.
    """

    folder: str
    content: str
    trained_until: date
    statistics: str | None

    @classmethod
    def read(cls, base: EncoderSpec, folder: str | Path) -> TunedSpec:
        """The spec of a model folder."""
        state, about = load_model(folder)
        trained_until = date.fromisoformat(about["trained_until"])
        return cls(base, str(folder), state_hash(state, about["lora"]), trained_until, about["statistics"])

    @property
    def revision(self) -> str:
        """Family and a short hash of the base, the adapters, and the statistics in the prompts."""
        return f"{self.family}-tuned-{fingerprint(self.base.revision, self.content, self._reads)[:12]}"

    @property
    def made_of(self) -> dict[str, Any]:
        """All that a vector depends on."""
        return {**super().made_of, "adapter": self.content, "statistics": self._reads}

    @property
    def statistics_path(self) -> str | None:
        """Parquet of the statistics in the prompts."""
        return f"{self.folder}/{STATISTICS}" if self.statistics else None

    @property
    def _reads(self) -> tuple[str, str] | None:
        return (self.statistics, text_fingerprint()) if self.statistics else None

    def load(self, device: str = "cpu") -> Encoder:
        """Loads the base and adds the adapters to its weights."""
        encoder = super().load(device)
        state, about = load_model(self.folder)
        load_adapters(encoder, self.family, **about["lora"], state=state)
        encoder.revision = self.revision
        return encoder
