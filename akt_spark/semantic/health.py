"""Health of semantic IDs: what is measured before anything is published, and the gate (method.md 4.4)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from pyspark.sql import DataFrame

from akt_spark.config import HealthConfig, HealthGateConfig
from akt_spark.errors import HealthGateError
from akt_spark.semantic.clusters import Measure, cluster_measures, code_measures
from akt_spark.semantic.neighbours import neighbour_measures
from akt_spark.semantic.purity import purity_measures
from akt_spark.semantic.reconstruction import unexplained_variance


@dataclass(frozen=True)
class Inputs:
    """What health is measured on.

    Attributes:
        ids: id, sid, codes: every assigned ID.
        vectors: id, vector: the vectors that can be used.
        roles: id, role (teacher, student, none) at the end of the training period.
        categories: id, category (the leaf); None for users.
        sizes: codes a level.
        path: folder of the quantiser.
    """

    ids: DataFrame
    vectors: DataFrame
    roles: DataFrame
    categories: DataFrame | None
    sizes: tuple[int, ...]
    path: str


@dataclass(frozen=True)
class Health:
    """The measures of one codebook: value by (metric, level); level 0 is the whole ID."""

    values: dict[tuple[str, int], float | None]

    def with_measures(self, measures: Iterable[Measure]) -> Health:
        """The same, and more."""
        return Health(self.values | {(metric, level): value for metric, level, value in measures})

    def of(self, metric: str, level: int = 0) -> float | None:
        """One measure."""
        return self.values[metric, level]

    def levels(self, metric: str) -> list[float | None]:
        """A measure level by level."""
        return [value for (name, level), value in sorted(self.values.items()) if name == metric and level > 0]


def measure(inputs: Inputs, config: HealthConfig) -> Health:
    """All measures, exact over all ids except neighbour agreement, which is on a bounded sample."""
    ids = inputs.ids.persist()
    try:
        measures = _measures(replace(inputs, ids=ids), config)
        return Health({}).with_measures(measures)
    finally:
        ids.unpersist()


def _measures(inputs: Inputs, config: HealthConfig) -> Iterator[Measure]:
    levels = len(inputs.sizes)
    coded = inputs.ids.select("id", "codes").join(inputs.vectors.select("id", "vector"), on="id")
    yield from code_measures(inputs.ids, inputs.sizes)
    yield from cluster_measures(inputs.ids.select("id", "sid"), inputs.roles.select("id", "role"), levels)
    yield "unexplained_variance", 0, unexplained_variance(coded, inputs.path)
    yield from neighbour_measures(coded, config)
    if inputs.categories is not None:
        yield from purity_measures(inputs.ids.select("id", "sid"), inputs.categories, levels)


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
        state = f"{kept} stays published as it was" if kept else "none is published"
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
