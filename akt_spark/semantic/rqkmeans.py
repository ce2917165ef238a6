"""RQ-KMeans: k-means on the vectors, then on what is left of them, level by level (QARM; method.md 4.4).

No network, so the clusters are those of the vectors themselves. It fits in seconds and reconstructs well; with the same
sizes it is the first thing to try. No level is made to use its codes evenly: where vectors do have clusters, IDs should
follow them, and more distinct IDs mean that clusters were cut (`benchmarks/quantizers.py` shows both); ``max_per_sid``
does that where IDs are crowded (`collisions`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from akt_spark.semantic.arithmetic import Floats
from akt_spark.semantic.nearest import nearest
from akt_spark.semantic.quantizer import Labels
from akt_spark.semantic.residual import ResidualQuantizer, chunks, require_distinct


class RqKMeans(ResidualQuantizer):
    """LayerNorm and residual k-means; the latent is the normalised vector."""

    def latent(self, x: Floats) -> Floats:
        """The normalised vectors (N, D)."""
        return self.normalise(x)

    def decode(self, codes: NDArray[np.int32]) -> Floats:
        """Reconstructions (N, D) of codes (N, L): the sum of the codes."""
        return self.quantised(codes)

    def _train(self, x: Floats, labels: Labels | None) -> tuple[dict[str, Floats], int]:
        require_distinct(x, self.config.sizes)
        codebooks, _ = residual_kmeans(x, self.config.sizes, self.config.seed)
        return {f"codebooks.{level}": codebook for level, codebook in enumerate(codebooks)}, 0


def residual_kmeans(x: Floats, sizes: Sequence[int], seed: int) -> tuple[list[Floats], NDArray[np.int64]]:
    """Codebooks, one (K_l, D) a level, and codes (N, L) of rows x (N, D)."""
    from akt_spark.semantic.kmeans import kmeans  # faiss is needed for fitting only

    codebooks, codes, residual = [], [], x
    for size in sizes:
        codebooks.append(kmeans(residual, size, seed))
        codes.append(np.concatenate([nearest(rows, codebooks[-1]) for rows in chunks(residual)]))
        residual = residual - codebooks[-1][codes[-1]]
    return codebooks, np.stack(codes, axis=1)
