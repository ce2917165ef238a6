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
from akt_spark.semantic.kinds import CONTROLS, new_quantizer
from akt_spark.semantic.quantizer import Labels
from akt_spark.semantic.relabel import published_sample, relabelled
from akt_spark.semantic.sizing import choose_sizes
from akt_spark.semantic.vector_files import matrix

HASH_STEPS = 1_000_000_000


@dataclass(frozen=True)
class Sample:
    """Rows that a codebook is fitted on, in the order of their ids.

    Attributes:
        vectors: (N, D).
        labels: (N,), what a control reads.
        roles: (N,) teacher, student, none, or None.
        population: rows that it was drawn from.
    """

    vectors: Floats
    labels: Labels
    roles: Labels
    population: int


@dataclass(frozen=True)
class Fitted:
    """A codebook that was fitted and saved.

    Attributes:
        version: day of the fit and hash of model and embeddings, ``20240131-0f3a9c1b``.
        path: its folder.
        sizes: codes a level.
        metrics: measures of the fit, and of its agreement with published IDs.
        why: how the sizes were found; None when they were configured.
    """

    version: str
    path: Path
    sizes: tuple[int, ...]
    metrics: dict[str, float]
    why: str | None


def fit(
    vectors: DataFrame,
    roles: DataFrame,
    revision: str,
    config: QuantizerConfig,
    ds: date,
    folder: Path,
    published_ids: DataFrame | None = None,
) -> Fitted:
    """Fits on at most about ``config.fit_rows`` of ``vectors`` (id, vector, label; of this encoder revision); saves
    into ``folder``/version. Codes get the names that agree best with ``published_ids`` (id, codes), if there are any;
    those of controls stay as they are.

    The same vectors and configuration give the same model and so the same version: a run that was killed after this
    writes the same folder again.

    Args:
        roles: id, role: what ``sizes: auto`` measures head coverage with.

    Raises:
        DataError: when there are fewer distinct vectors than codes in a level.
    """
    found, why = sample(vectors, roles, config.fit_rows), None
    if config.sizes == "auto" and config.kind != "category":
        sizing = choose_sizes(found.vectors, found.roles, found.population, config.seed)
        config, why = config.model_copy(update={"sizes": sizing.sizes}), sizing.why
        print(f"  {why}", flush=True)
    quantizer = new_quantizer(config)
    metrics = quantizer.fit(found.vectors, found.labels).metrics()
    if published_ids is not None and config.kind not in CONTROLS:
        known = published_sample(drawn(vectors, found.population, config.fit_rows), published_ids)
        quantizer, agreement = relabelled(quantizer, known)
        metrics |= agreement
    version = f"{ds:%Y%m%d}-{fingerprint(quantizer.digest, revision)[:8]}"
    quantizer.save(folder / version)
    return Fitted(version, folder / version, quantizer.sizes, metrics, why)


def sample(vectors: DataFrame, roles: DataFrame, rows: int) -> Sample:
    """`drawn` vectors with their labels and roles, in the order of their ids."""
    population = vectors.count()
    known = drawn(vectors, population, rows).join(roles.select("id", "role"), on="id", how="left")
    table = known.select("id", "vector", "label", "role").toArrow()
    order = np.argsort(table.column("id").to_numpy(), kind="stable")
    found = matrix(table.column("vector").combine_chunks(), table.num_rows)
    labels, roles_found = (table.column(name).to_numpy() for name in ("label", "role"))
    return Sample(found[order], labels[order], roles_found[order], population)


def drawn(vectors: DataFrame, population: int, rows: int) -> DataFrame:
    """About ``rows`` of the vectors, of which there are ``population``, or all where there are fewer.

    An id is drawn by its hash, so that the sample does not depend on partitions and hardly changes with new ids.
    """
    share = min(1.0, rows / max(population, 1))
    return vectors.where(F.pmod(F.xxhash64("id"), F.lit(HASH_STEPS)) < round(share * HASH_STEPS))
