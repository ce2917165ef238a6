"""The kinds of quantiser that ``semantic.<entity>.kind`` may name."""

from __future__ import annotations

from pathlib import Path

from akt_spark.config import QuantizerConfig
from akt_spark.semantic.controls import CategoryCodes, RandomCodes
from akt_spark.semantic.model_folder import read_description
from akt_spark.semantic.quantizer import Quantizer
from akt_spark.semantic.rqkmeans import RqKMeans
from akt_spark.semantic.rqvae import RqVae

KINDS: dict[str, type[Quantizer]] = {
    "rqvae": RqVae,
    "rqkmeans": RqKMeans,
    "random": RandomCodes,
    "category": CategoryCodes,
}

CONTROLS = ("random", "category")  # they read labels, not vectors


def new_quantizer(config: QuantizerConfig) -> Quantizer:
    """An unfitted quantiser of the configured kind."""
    return KINDS[config.kind](config)


def load_quantizer(path: str | Path) -> Quantizer:
    """A fitted quantiser, of the kind that its folder names."""
    return KINDS[read_description(Path(path)).config.kind].load(Path(path))
