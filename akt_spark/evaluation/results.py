"""The metrics and differences of one run in memory: their number depends on the configuration, not on the data."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property

from pyspark.sql import Row
from pyspark.sql import functions as F

from akt_spark.errors import MissingInput
from akt_spark.evaluation.significance import Difference
from akt_spark.evaluation.slices import SLICES
from akt_spark.stage import Context


@dataclass(frozen=True)
class Metric:
    """One value; None where it is undefined."""

    value: float | None
    n: int
    stderr: float | None


Key = tuple[str, int, str, str]  # variant, seed, slice, metric


def metrics_by_key(rows: list[Row]) -> dict[Key, Metric]:
    """Rows of evaluation.metrics by (variant, seed, slice, metric)."""
    return {
        (row["variant"], row["seed"], row["slice"], row["metric"]): Metric(row["value"], row["n"], row["stderr"])
        for row in rows
    }


@dataclass(frozen=True)
class Results:
    """What `evaluate` found.

    Attributes:
        variants: names in the order of the configuration, the reference last.
        reference: the variant that the others are compared with.
        metrics: by (variant, seed, slice, metric).
        differences: by (variant, reference, slice, metric).
    """

    variants: list[str]
    reference: str
    metrics: dict[Key, Metric]
    differences: dict[tuple[str, str, str, str], Difference]

    @classmethod
    def load(cls, ctx: Context) -> Results:
        """Reads both evaluation tables of the run.

        Raises:
            MissingInput: when the run was not evaluated.
        """
        of_run = F.col("run_id") == ctx.run_id
        rows = ctx.lake.read("evaluation.metrics").where(of_run).collect()
        if not rows:
            raise MissingInput("evaluation.metrics", "evaluate", f"has no row of run {ctx.run_id}")
        names = [field.name for field in fields(Difference)]
        compared = ctx.lake.read("evaluation.differences").where(of_run).select(*names).collect()
        return cls.of(ctx, metrics_by_key(rows), [Difference(**row.asDict()) for row in compared])

    @classmethod
    def of(cls, ctx: Context, metrics: dict[Key, Metric], found: list[Difference]) -> Results:
        """Puts variants in the order of the configuration; ones it no longer knows come after."""
        reference = ctx.config.evaluation.reference
        scored = {variant for variant, *_ in metrics}
        order = [name for name in ctx.config.ranker.variants if name in scored]
        order += sorted(scored - set(order))
        variants = [name for name in order if name != reference] + [name for name in order if name == reference]
        differences = {(d.variant, d.reference, d.slice, d.metric): d for d in found}
        return cls(variants, reference, metrics, differences)

    @cached_property
    def seeds(self) -> list[int]:
        """Seeds that were scored."""
        return sorted({seed for _, seed, *_ in self.metrics})

    @cached_property
    def slices(self) -> list[str]:
        """Slices with test impressions, in the order of `SLICES`."""
        present = {slice_name for _, _, slice_name, _ in self.metrics}
        return [name for name in SLICES if name in present]

    def mean(self, variant: str, slice_name: str, metric: str) -> float | None:
        """Mean over seeds; None where it is undefined in a seed, or the slice has no rows."""
        values = [self.value(variant, seed, slice_name, metric) for seed in self.seeds]
        return None if not values or None in values else sum(values) / len(values)

    def value(self, variant: str, seed: int, slice_name: str, metric: str) -> float | None:
        """The value of one seed."""
        found = self.metrics.get((variant, seed, slice_name, metric))
        return found.value if found else None

    def stderr(self, variant: str, slice_name: str, metric: str) -> float | None:
        """Standard error over impressions or users (not over seeds), of the first seed."""
        found = self.metrics.get((variant, self.seeds[0], slice_name, metric))
        return found.stderr if found else None

    def against(self, variant: str, slice_name: str, metric: str, reference: str | None = None) -> Difference | None:
        """The difference to the reference, if there is one."""
        return self.differences.get((variant, reference or self.reference, slice_name, metric))

    def undefined_because(self, slice_name: str, metric: str) -> str:
        """Why a metric has no value on a slice, in words."""
        variant = self.variants[0]
        n, positives = (self.mean(variant, slice_name, name) or 0 for name in ("n", "positives"))
        if n == 0:
            return "no test impressions"
        if metric.startswith("gauc"):
            return "no user with both classes"
        return "no clicks" if positives == 0 else "only clicks" if positives == n else "undefined"
