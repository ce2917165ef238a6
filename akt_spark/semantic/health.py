"""Health of semantic IDs: what is measured before anything is published, and the gate (method.md 4.4)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from akt_spark.config import HealthConfig, HealthGateConfig
from akt_spark.errors import HealthGateError
from akt_spark.semantic.clusters import Cells, cells, cluster_measures, code_measures, cost_measures
from akt_spark.semantic.co_occurrence import co_occurrence_measures
from akt_spark.semantic.labelled import labelled_ids
from akt_spark.semantic.measures import OWN, Measure
from akt_spark.semantic.neighbours import neighbour_measures
from akt_spark.semantic.purity import purity_measures
from akt_spark.semantic.reconstruction import reconstruction_measures

HEALTH = "semantic.health"
NEAR_TIE = 0.05  # margin of the first code below which another vector of the same content could fall to either side


@dataclass(frozen=True)
class Inputs:
    """What health is measured on.

    Attributes:
        ids: id, codes, margin: every assigned ID.
        vectors: id, vector: the vectors that can be used.
        roles: id, role (teacher, student, none) at the end of the training period.
        paths: id, path (of categories); None for users.
        pairs: item_id, positive_id: held-out pairs; None for users.
        sizes: codes a level.
        path: folder of the quantiser.
    """

    ids: DataFrame
    vectors: DataFrame
    roles: DataFrame
    paths: DataFrame | None
    pairs: DataFrame | None
    sizes: tuple[int, ...]
    path: str


@dataclass(frozen=True)
class Health:
    """The measures of one codebook: value by (metric, level, control); level 0 is the whole ID."""

    values: dict[tuple[str, int, str], float | None]

    def with_measures(self, measures: Iterable[Measure]) -> Health:
        """The same, and more."""
        return Health(self.values | {(m.metric, m.level, m.control): m.value for m in measures})

    def of(self, metric: str, level: int = 0, control: str = OWN) -> float | None:
        """One measure; None where it is not defined."""
        return self.values.get((metric, level, control))

    def levels(self, metric: str, control: str = OWN) -> list[float | None]:
        """A measure level by level."""
        found = sorted(
            (level, value) for (name, level, of), value in self.values.items() if (name, of) == (metric, control)
        )
        return [value for level, value in found if level > 0]


def by_level(values: Iterable[float | None], form: str) -> str:
    """``0.98 / 1.00``: measures of one level after another as a person reads them."""
    return " / ".join("-" if value is None else format(value, form) for value in values)


def measure(inputs: Inputs, config: HealthConfig) -> Health:
    """All measures beside those of the controls, exact over all ids; only agreement of neighbours is on a sample."""
    labelled = labelled_ids(inputs.ids, inputs.roles, inputs.paths).persist()
    found = cells(labelled, len(inputs.sizes))
    found.counts.persist()
    try:
        return Health({}).with_measures(_measures(inputs, labelled, found, config))
    finally:
        found.counts.unpersist()
        labelled.unpersist()


def _measures(inputs: Inputs, labelled: DataFrame, found: Cells, config: HealthConfig) -> Iterator[Measure]:
    levels = len(inputs.sizes)
    with_vectors = labelled.join(inputs.vectors.select("id", "vector"), on="id")
    yield from code_measures(found, inputs.sizes)
    yield from cluster_measures(found)
    yield from cost_measures(found)
    yield Measure("near_ties", 1, inputs.ids.agg(F.avg((F.col("margin") < NEAR_TIE).cast("double"))).head()[0])
    yield from reconstruction_measures(with_vectors, inputs.path, levels)
    yield from neighbour_measures(with_vectors, config, levels)
    if inputs.paths is not None:
        yield from purity_measures(found)
    if inputs.pairs is not None:
        yield from co_occurrence_measures(labelled, inputs.pairs, levels)


def check(health: Health, gate: HealthGateConfig, entity: str, version: str, kept: str | None) -> None:
    """Refuses a codebook below its gate.

    Args:
        health: measures of ``version``.
        gate: the configured thresholds.
        entity: ``item`` or ``user``.
        version: the codebook that was measured.
        kept: the version that stays published.

    Raises:
        HealthGateError: with every metric that failed, its value, its threshold and what to do.
    """
    failures = list(_failures(health, gate, f"semantic.{entity}_gate", f"semantic.{entity}"))
    if failures:
        state = f"{kept} stays published" if kept else "none is published"
        raise HealthGateError(
            f"semantic IDs of {entity}s are below their health gate; codebook {version} adds nothing, {state} "
            f"(semantic.health has all measures):\n" + "\n".join(f"  {line}" for line in failures)
        )


def _failures(health: Health, gate: HealthGateConfig, gate_key: str, key: str) -> Iterator[str]:
    for level, coverage in enumerate(health.levels("coverage"), start=1):
        if coverage is not None and coverage < gate.min_coverage:
            yield (
                f"coverage of level {level} is {coverage:.3f}, below {gate_key}.min_coverage {gate.min_coverage}: "
                f"lower {key}.sizes, or raise {key}.dead_code_share"
            )
    heads = health.of("head_coverage", 1)
    if heads is not None and heads < gate.min_head_coverage:
        yield (
            f"head coverage of level 1 is {heads:.3f}, below {gate_key}.min_head_coverage {gate.min_head_coverage}: "
            f"lower the first of {key}.sizes, or let more ids be teachers (segments)"
        )
    largest = health.of("largest_bucket")
    if largest is not None and largest > gate.max_largest_bucket:
        yield (
            f"the largest cluster of equal IDs holds {largest:.3f} of all, above {gate_key}.max_largest_bucket "
            f"{gate.max_largest_bucket}: look for identical embeddings (empty titles?), or raise {key}.sizes"
        )
    unexplained = health.of("unexplained_variance")
    if unexplained is not None and unexplained > gate.max_unexplained_variance:
        yield (
            f"unexplained variance is {unexplained:.3f}, above {gate_key}.max_unexplained_variance "
            f"{gate.max_unexplained_variance}: raise {key}.steps or {key}.sizes"
        )
