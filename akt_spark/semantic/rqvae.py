"""A fitted RQ-VAE (method.md 4.1) as numpy sees it: assignment needs neither torch nor BLAS, only `arithmetic`.

Training is in `training` and `network`. vector-quantize-pytorch's ``ResidualVQ`` was considered and not used: it
initialises from the first training batch with random centres (here: k-means++ on a large sample after a warm-up),
re-seeds dead codes from any row of the batch, has no guard for opposite directions in its rotation trick, and its
distances depend on the batch through the matrix product.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from akt_spark.config import QuantizerConfig
from akt_spark.errors import DataError
from akt_spark.semantic.arithmetic import Floats, dense, layer_norm, relu, residual_codes, squared_norms
from akt_spark.semantic.model_folder import read_model, weights_hash, write_model
from akt_spark.semantic.quantizer import Codes, FitReport

CHUNK_ROWS = 512  # keeps the temporaries of a layer in the cache; no result depends on it


class RqVae:
    """LayerNorm, MLP encoder, residual quantisation, MLP decoder.

    Args:
        config: sizes, widths and training.
        weights: of a fitted model: ``encoder.<i>.weight/bias``, ``decoder.<i>.weight/bias``, ``codebooks.<l>``.
    """

    def __init__(self, config: QuantizerConfig, weights: dict[str, Floats] | None = None) -> None:
        self.config = config
        self._weights = weights or {}

    @property
    def sizes(self) -> tuple[int, ...]:
        """Codes a level."""
        return tuple(self.config.sizes)

    @property
    def digest(self) -> str:
        """Hash of weights and configuration."""
        return hashlib.sha256((weights_hash(self._weights) + self.config.model_dump_json()).encode()).hexdigest()

    @property
    def codebooks(self) -> list[Floats]:
        """The codes of every level, each (K_l, latent_dim)."""
        return [self._weights[f"codebooks.{level}"] for level in range(len(self.config.sizes))]

    def fit(self, x: Floats) -> FitReport:
        """Fits on vectors (N, D) in this process, with one thread, from the configured seed.

        Raises:
            DataError: when there are fewer distinct vectors than codes in a level.
        """
        from akt_spark.semantic.training import train  # torch is needed for fitting only

        distinct = len(np.unique(x, axis=0))
        if distinct < max(self.sizes):
            raise DataError(
                f"a codebook of {max(self.sizes)} codes a level (sizes {list(self.sizes)}) cannot be fitted on "
                f"{distinct} distinct vectors: set semantic.item.sizes or semantic.user.sizes to at most {distinct} "
                f"a level, better to a tenth of it"
            )
        self._weights, resets = train(self.normalise(x), self.config)
        normalised, codes = self.normalise(x), self.encode(x).codes
        error = np.square(normalised - self.decode(codes), dtype=np.float64).sum()
        variance = np.square(normalised - normalised.mean(axis=0), dtype=np.float64).sum()
        coverage = tuple(len(np.unique(codes[:, level])) / size for level, size in enumerate(self.sizes))
        return FitReport(len(x), float(error / max(variance, 1e-12)), coverage, resets)

    def normalise(self, x: Floats) -> Floats:
        """Vectors (N, D) with mean 0 and variance 1 over D: what the encoder reads and the decoder reconstructs."""
        return layer_norm(np.asarray(x, np.float32))

    def latent(self, x: Floats) -> Floats:
        """y = Enc(LayerNorm(x)): (N, D) to (N, latent_dim)."""
        return self._mlp("encoder", self.normalise(x))

    def encode(self, x: Floats) -> Codes:
        """Codes of vectors (N, D): the nearest code of every level, at a tie the lowest."""
        codes, distances = [np.empty((0, len(self.sizes)), np.int32)], [np.empty(0, np.float32)]
        for rows in _chunks(x):
            chunk_codes, residuals = residual_codes(self.latent(rows), self.codebooks)
            codes.append(chunk_codes)
            distances.append(squared_norms(residuals[-1]))
        return Codes(np.concatenate(codes), np.concatenate(distances))

    def decode(self, codes: NDArray[np.int32]) -> Floats:
        """Reconstructions (N, D) of codes (N, L)."""
        quantised = sum(codebook[codes[:, level]] for level, codebook in enumerate(self.codebooks))
        return np.concatenate([self._mlp("decoder", rows) for rows in _chunks(quantised)])

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

    def _mlp(self, name: str, x: Floats) -> Floats:
        for layer in count():
            x = dense(x, self._weights[f"{name}.{layer}.weight"], self._weights[f"{name}.{layer}.bias"])
            if f"{name}.{layer + 1}.weight" not in self._weights:
                return x
            x = relu(x)
        raise AssertionError("unreachable")


def _chunks(x: Floats) -> Iterator[Floats]:
    return (x[start : start + CHUNK_ROWS] for start in range(0, len(x), CHUNK_ROWS))
