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
from akt_spark.semantic.quantizer import FitReport, Labels
from akt_spark.semantic.sizing import choose_sizes

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
        report: what the fit did.
        why: how the sizes were found; None when they were configured.
    """

    version: str
    path: Path
    sizes: tuple[int, ...]
    report: FitReport
    why: str | None


def fit(vectors: DataFrame, roles: DataFrame, revision: str, config: QuantizerConfig, ds: date, folder: Path) -> Fitted:
    """Fits on at most about ``config.fit_rows`` of ``vectors`` (id, vector, label; of this encoder revision); saves
    into ``folder``/version.

    The same vectors and configuration give the same model and so the same version: a run that was killed after this
    writes the same folder again.

    Args:
        roles: id, role: what ``sizes: auto`` measures head coverage with.

    Raises:
        DataError: when there are fewer distinct vectors than codes in a level.
    """
    drawn, why = sample(vectors, roles, config.fit_rows), None
    if config.sizes == "auto" and config.kind != "category":
        sizing = choose_sizes(drawn.vectors, drawn.roles, drawn.population, config.seed)
        config, why = config.model_copy(update={"sizes": sizing.sizes}), sizing.why
        print(f"  {why}", flush=True)
    quantizer = new_quantizer(config)
    report = quantizer.fit(drawn.vectors, drawn.labels)
    version = f"{ds:%Y%m%d}-{fingerprint(quantizer.digest, revision)[:8]}"
    quantizer.save(folder / version)
    return Fitted(version, folder / version, quantizer.sizes, report, why)


def sample(vectors: DataFrame, roles: DataFrame, rows: int) -> Sample:
    """About ``rows`` vectors, or all where there are fewer.

    An id is drawn by its hash, so that the sample does not depend on partitions and hardly changes with new ids.
    """
    population = vectors.count()
    share = min(1.0, rows / max(population, 1))
    drawn = vectors.where(F.pmod(F.xxhash64("id"), F.lit(HASH_STEPS)) < round(share * HASH_STEPS))
    known = drawn.join(roles.select("id", "role"), on="id", how="left")
    table = known.select("id", "vector", "label", "role").toArrow()
    order = np.argsort(table.column("id").to_numpy(), kind="stable")
    found = matrix(table.column("vector").combine_chunks(), table.num_rows)
    labels, roles_found = (table.column(name).to_numpy() for name in ("label", "role"))
    return Sample(found[order], labels[order], roles_found[order], population)
