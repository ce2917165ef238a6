"""A fitted RQ-VAE (method.md 4.1) as numpy sees it: assignment needs neither torch nor BLAS in what it decides.

Training is in `training` and `network`. vector-quantize-pytorch's ``ResidualVQ`` was considered and not used: it
initialises from the first training batch with random centres (here: k-means++ on a large sample after a warm-up),
re-seeds dead codes from any row of the batch, has no guard for opposite directions in its rotation trick, and its
distances depend on the batch through the matrix product.
"""

from __future__ import annotations

from itertools import count

import numpy as np
from numpy.typing import NDArray

from akt_spark.semantic.arithmetic import Floats, dense, relu
from akt_spark.semantic.quantizer import Labels
from akt_spark.semantic.residual import ResidualQuantizer, chunks, require_distinct
from akt_spark.semantic.unused_codes import occupy


class RqVae(ResidualQuantizer):
    """LayerNorm, MLP encoder, residual quantisation, MLP decoder.

    To the codebooks its weights add ``encoder.<i>.weight/bias`` and ``decoder.<i>.weight/bias``.
    """

    def latent(self, x: Floats) -> Floats:
        """y = Enc(LayerNorm(x)): (N, D) to (N, latent_dim)."""
        return self._mlp("encoder", self.normalise(x))

    def decode(self, codes: NDArray[np.int32]) -> Floats:
        """Reconstructions (N, D) of codes (N, L)."""
        return np.concatenate([self._mlp("decoder", rows) for rows in chunks(self.quantised(codes))])

    def _train(self, x: Floats, labels: Labels | None) -> tuple[dict[str, Floats], int]:
        from akt_spark.semantic.training import train  # torch is needed for fitting only

        require_distinct(x, self.config.sizes)
        self._weights, resets = train(x, self.config)
        if self.config.dead_code_share:
            latent = np.concatenate([self._mlp("encoder", rows) for rows in chunks(x)])
            resets += occupy(latent, self.codebooks)
        return self._weights, resets

    def _mlp(self, name: str, x: Floats) -> Floats:
        for layer in count():
            x = dense(x, self._weights[f"{name}.{layer}.weight"], self._weights[f"{name}.{layer}.bias"])
            if f"{name}.{layer + 1}.weight" not in self._weights:
                return x
            x = relu(x)
        raise AssertionError("unreachable")
