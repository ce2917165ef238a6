"""Semantic IDs without semantics, published like any other, for experiments: random codes, and the category as cluster.

Whatever a ranker gains from them it owes to shared parameters or to the catalogue, not to the vectors (method.md 4.4).
They are judged as other codebooks are, so the unexplained variance of random codes is above 1 and a gate that is to
let them pass must say so. The ranker's variant ``random_sid`` shuffles published IDs instead, and needs no codebook.
"""

from __future__ import annotations

import hashlib
import json

import numpy as np
from numpy.typing import NDArray

from akt_spark.semantic.arithmetic import Floats, squared_norms
from akt_spark.semantic.quantizer import Codes, Labels
from akt_spark.semantic.residual import ResidualQuantizer
from akt_spark.semantic.rqkmeans import RqKMeans

NO_CATEGORY = ""


class RandomCodes(RqKMeans):
    """The semantic IDs of RQ-KMeans, dealt to ids by their hash: clusters of every prefix keep their share of ids.

    A label is the id. To the codebooks the weights add ``dealt`` (N, L): the IDs of the vectors it was fitted on.
    """

    def encode(self, x: Floats, labels: Labels | None = None) -> Codes:
        """The ID that the hash of each label (N,) points at; distances are those of vectors (N, D) to it."""
        dealt = self._weights["dealt"]
        codes = dealt[[_hash(label) % len(dealt) for label in labels]]
        return _decided(codes, self.latent(x) - self.quantised(codes))

    def _train(self, x: Floats, labels: Labels | None) -> tuple[dict[str, Floats], int]:
        weights, resets = super()._train(x, labels)
        fitted = RqKMeans(self.config, weights)
        return weights | {"dealt": fitted.encode(x).codes}, resets


class CategoryCodes(ResidualQuantizer):
    """One level: the leaf category, which is the label; code 0 stands for none and for those that came later.

    Its codebook is the mean vector of every category. ``categories`` are their names, JSON in bytes. The configured
    sizes are not read.
    """

    def latent(self, x: Floats) -> Floats:
        """The normalised vectors (N, D)."""
        return self.normalise(x)

    def decode(self, codes: NDArray[np.int32]) -> Floats:
        """Reconstructions (N, D) of codes (N, 1): the mean of the category."""
        return self.quantised(codes)

    def encode(self, x: Floats, labels: Labels | None = None) -> Codes:
        """The code of each label (N,); distances are those of vectors (N, D) to the mean of the category."""
        code = {name: number for number, name in enumerate(json.loads(self._weights["categories"].tobytes()))}
        codes = np.array([code.get(label, 0) for label in labels], np.int32).reshape(-1, 1)
        return _decided(codes, self.latent(x) - self.quantised(codes))

    def _train(self, x: Floats, labels: Labels | None) -> tuple[dict[str, Floats], int]:
        found = np.array([label or NO_CATEGORY for label in labels])
        names = [NO_CATEGORY, *sorted(set(found.tolist()) - {NO_CATEGORY})]
        means = [x[found == name].mean(axis=0) if (found == name).any() else x.mean(axis=0) for name in names]
        stored = np.frombuffer(json.dumps(names).encode(), np.uint8)
        return {"codebooks.0": np.stack(means), "categories": stored}, 0


def _hash(label: str) -> int:
    return int.from_bytes(hashlib.blake2b(label.encode(), digest_size=8).digest())


def _decided(codes: NDArray[np.int32], residual: Floats) -> Codes:
    """Codes (N, L) that no distance decides."""
    return Codes(codes, squared_norms(residual), np.ones(len(codes), np.float32))
