"""The fit of a codebook: a bounded sample of vectors is collected, and fitted in the driver's process."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from akt_spark.config import QuantizerConfig, fingerprint
from akt_spark.semantic.arithmetic import Floats
from akt_spark.semantic.assign import matrix
from akt_spark.semantic.kinds import new_quantizer
from akt_spark.semantic.relabel import published_sample, relabelled

HASH_STEPS = 1_000_000_000


@dataclass(frozen=True)
class Fitted:
    """A codebook that was fitted and saved.

    Attributes:
        version: day of the fit and hash of model and embeddings, ``20240131-0f3a9c1b``.
        path: its folder.
        metrics: measures of the fit, and of its agreement with published IDs.
    """

    version: str
    path: Path
    metrics: dict[str, float]


def fit(
    vectors: DataFrame,
    revision: str,
    config: QuantizerConfig,
    ds: date,
    folder: Path,
    published_ids: DataFrame | None = None,
) -> Fitted:
    """Fits on at most about ``config.fit_rows`` of ``vectors`` (id, vector; of this encoder revision); saves into
    ``folder``/version. Codes get the names that agree best with ``published_ids`` (id, codes), if there are any.

    The same vectors and configuration give the same model and so the same version: a run that was killed after this
    writes the same folder again.

    Raises:
        DataError: when there are fewer distinct vectors than codes in a level.
    """
    quantizer = new_quantizer(config)
    metrics = quantizer.fit(sample(vectors, config.fit_rows)).metrics()
    if published_ids is not None:
        known = published_sample(drawn(vectors, config.fit_rows), published_ids)
        quantizer, agreement = relabelled(quantizer, known)
        metrics |= agreement
    version = f"{ds:%Y%m%d}-{fingerprint(quantizer.digest, revision)[:8]}"
    quantizer.save(folder / version)
    return Fitted(version, folder / version, metrics)


def sample(vectors: DataFrame, rows: int) -> Floats:
    """`drawn` vectors as an array (N, D) in the order of their ids."""
    table = drawn(vectors, rows).select("id", "vector").toArrow()
    order = np.argsort(table.column("id").to_numpy(), kind="stable")
    return matrix(table.column("vector").combine_chunks(), table.num_rows)[order]


def drawn(vectors: DataFrame, rows: int) -> DataFrame:
    """About ``rows`` of the vectors, or all where there are fewer.

    An id is drawn by its hash, so that the sample does not depend on partitions and hardly changes with new ids.
    """
    share = min(1.0, rows / max(vectors.count(), 1))
    return vectors.where(F.pmod(F.xxhash64("id"), F.lit(HASH_STEPS)) < round(share * HASH_STEPS))
