"""What every residual quantiser shares: one pass over the levels, fitting and its report, encoding, folder, hash.

A kind (`rqvae`, `rqkmeans`) says how vectors become latents and back, and how the weights are found.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from akt_spark.config import QuantizerConfig
from akt_spark.errors import DataError
from akt_spark.semantic.arithmetic import Floats, layer_norm, squared_distances, squared_norms
from akt_spark.semantic.model_folder import read_model, weights_hash, write_model
from akt_spark.semantic.nearest import nearest, nearest_two
from akt_spark.semantic.quantizer import Codes, FitReport, Labels

CHUNK_ROWS = 512  # keeps the temporaries of a layer in the cache; no result depends on it


def residual_codes(latent: Floats, codebooks: list[Floats]) -> tuple[NDArray[np.int32], list[Floats], Floats]:
    """The residual pass (method.md 4.1, formula 3).

    Args:
        latent: y (N, d).
        codebooks: one (K_l, d) a level.

    Returns:
        Codes (N, L), at a tie the lowest; the residuals r_0 = y, ..., r_L, each (N, d); and the margin (N,) of the
        first code, as `quantizer.Codes` defines it.
    """
    first, second = nearest_two(latent, codebooks[0])
    codes, residuals = [first], [latent, latent - codebooks[0][first]]
    margin = np.ones(len(latent), np.float32)
    if len(codebooks[0]) > 1:
        distance, runner_up = squared_norms(residuals[1]), squared_norms(latent - codebooks[0][second])
        margin -= np.divide(distance, runner_up, out=np.ones_like(distance), where=runner_up > 0)
    for codebook in codebooks[1:]:
        codes.append(nearest(residuals[-1], codebook))
        residuals.append(residuals[-1] - codebook[codes[-1]])
    return np.stack(codes, axis=1).astype(np.int32), residuals, margin


class ResidualQuantizer(ABC):
    """LayerNorm, a latent, one codebook a level.

    Args:
        config: sizes and how to fit.
        weights: of a fitted model: ``codebooks.<l>`` (K_l, d), and what the kind adds.
    """

    def __init__(self, config: QuantizerConfig, weights: dict[str, Floats] | None = None) -> None:
        self.config = config
        self._weights = weights or {}

    @abstractmethod
    def latent(self, x: Floats) -> Floats:
        """Vectors (N, D) as the codebooks see them: (N, d)."""

    @abstractmethod
    def decode(self, codes: NDArray[np.int32]) -> Floats:
        """Reconstructions (N, D) of codes (N, L), or of the first of them, in the space of `normalise`."""

    @abstractmethod
    def _train(self, x: Floats, labels: Labels | None) -> tuple[dict[str, Floats], int]:
        """Weights from normalised vectors (N, D), and how many dead codes were re-seeded."""

    @property
    def sizes(self) -> tuple[int, ...]:
        """Codes a level of the fitted model."""
        return tuple(map(len, self.codebooks))

    @property
    def digest(self) -> str:
        """Hash of weights and configuration."""
        config = self.config.model_dump_json(exclude_none=True)
        return hashlib.sha256((weights_hash(self._weights) + config).encode()).hexdigest()

    @property
    def codebooks(self) -> list[Floats]:
        """The codes of every level, each (K_l, d)."""
        levels = sum(name.startswith("codebooks.") for name in self._weights)
        return [self._weights[f"codebooks.{level}"] for level in range(levels)]

    def fit(self, x: Floats, labels: Labels | None = None) -> FitReport:
        """Fits on vectors (N, D) in this process, with one thread, from the configured seed.

        Raises:
            DataError: when there are fewer distinct vectors than codes in a level.
        """
        normalised = self.normalise(x)
        self._weights, resets = self._train(normalised, labels)
        codes = self.encode(x, labels).codes
        error = np.square(normalised - self.decode(codes), dtype=np.float64).sum()
        variance = np.square(normalised - normalised.mean(axis=0), dtype=np.float64).sum()
        coverage = tuple(len(np.unique(codes[:, level])) / size for level, size in enumerate(self.sizes))
        return FitReport(len(x), float(error / max(variance, 1e-12)), coverage, resets)

    def normalise(self, x: Floats) -> Floats:
        """Vectors (N, D) with mean 0 and variance 1 over D: what is quantised and reconstructed."""
        return layer_norm(np.asarray(x, np.float32))

    def encode(self, x: Floats, labels: Labels | None = None) -> Codes:
        """Codes of vectors (N, D): the nearest code of every level, at a tie the lowest. Labels are not read."""
        codes = [np.empty((0, len(self.sizes)), np.int32)]
        distances, margins = [np.empty(0, np.float32)], [np.empty(0, np.float32)]
        for rows in chunks(x):
            chunk_codes, residuals, margin = residual_codes(self.latent(rows), self.codebooks)
            codes.append(chunk_codes)
            distances.append(squared_norms(residuals[-1]))
            margins.append(margin)
        return Codes(np.concatenate(codes), np.concatenate(distances), np.concatenate(margins))

    def last_distances(self, x: Floats) -> Floats:
        """Squared distances (N, K) of vectors (N, D) to the last codes, after the nearest ones before them."""
        *before, last = self.codebooks
        distances = [np.empty((0, len(last)), np.float32)]
        for rows in chunks(x):
            latent = self.latent(rows)
            residual = residual_codes(latent, before)[1][-1] if before else latent
            distances.append(squared_distances(residual, last))
        return np.concatenate(distances)

    def quantised(self, codes: NDArray[np.int32]) -> Floats:
        """Latents (N, d) that codes (N, L), or the first of them, stand for: the sum over levels."""
        return sum(codebook[level] for codebook, level in zip(self.codebooks, codes.T, strict=False))

    def relabelled(self, names: Sequence[NDArray[np.int32]]) -> Self:
        """The same model, in which code k of level l is called ``names[l][k]``."""
        books = {f"codebooks.{level}": book[np.argsort(names[level])] for level, book in enumerate(self.codebooks)}
        return type(self)(self.config, self._weights | books)

    def save(self, path: Path) -> None:
        """Writes the fitted model into a folder (`model_folder`)."""
        write_model(path, self.config, self._weights)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads what `save` wrote."""
        return cls(*read_model(path))


def require_distinct(x: Floats, sizes: Sequence[int]) -> None:
    """Refuses to fit a codebook with more codes than there are distinct vectors x (N, D).

    Raises:
        DataError: when there are fewer distinct vectors than codes in a level.
    """
    distinct = len({row.tobytes() for row in x})
    if distinct < max(sizes):
        raise DataError(
            f"a codebook of {max(sizes)} codes a level (sizes {list(sizes)}) cannot be fitted on "
            f"{distinct} distinct vectors: set semantic.item.sizes or semantic.user.sizes to at most {distinct} "
            f"a level, better to a tenth of it"
        )


def chunks(x: Floats) -> Iterator[Floats]:
    """Consecutive rows, few enough for the cache."""
    return (x[start : start + CHUNK_ROWS] for start in range(0, len(x), CHUNK_ROWS))
