"""Levels and sizes by search, for ``sizes: auto`` (method.md 4.3).

Clusters should be of 20 to 200 ids, and 90 % of the students should sit with a teacher. Both depend on the catalogue,
so powers of two are tried from fine to coarse, with residual k-means on the vectors, which takes seconds and stands in
for every kind. What is chosen are the levels of the transfer prefix, about equally large; one more level tells the ids
of a cluster apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, exp, log, log2

import numpy as np
from numpy.typing import NDArray

from akt_spark.semantic.arithmetic import Floats, layer_norm
from akt_spark.semantic.residual import require_distinct
from akt_spark.semantic.rqkmeans import residual_kmeans

MEDIAN = (20, 200)  # ids of the median cluster, all three of method.md 4.3
MIDDLE = exp((log(MEDIAN[0]) + log(MEDIAN[1])) / 2)
HEAD_COVERAGE = 0.9
MAX_BITS_A_LEVEL = 8  # 256 codes
LAST_LEVEL = 32  # codes that tell the ids of a cluster apart
SEARCH_ROWS = 50_000  # vectors that the search looks at
ROWS_A_CLUSTER = 5  # of these: fewer say nothing about a median


@dataclass(frozen=True)
class Sizing:
    """What was chosen.

    Attributes:
        sizes: codes a level.
        why: one line for people.
    """

    sizes: list[int]
    why: str


@dataclass(frozen=True)
class Prefix:
    """Clusters of ids that share all codes of these levels.

    Attributes:
        sizes: codes a level.
        median: ids in the median cluster, counted up to the whole catalogue.
        head_coverage: share of students whose cluster holds a teacher; None without students.
    """

    sizes: list[int]
    median: float
    head_coverage: float | None

    @property
    def covers(self) -> bool:
        """Whether enough students have a teacher."""
        return self.head_coverage is None or self.head_coverage >= HEAD_COVERAGE

    @property
    def misfit(self) -> tuple[float, float]:
        """How far the median is outside its range, and from the middle of it, as logarithms of ratios."""
        outside = max(0.0, log(MEDIAN[0] / self.median), log(self.median / MEDIAN[1]))
        return outside, abs(log(self.median / MIDDLE))

    def __str__(self) -> str:
        heads = "no students" if self.head_coverage is None else f"head coverage {self.head_coverage:.2f}"
        return f"{'x'.join(map(str, self.sizes))} (median cluster {self.median:.0f}, {heads})"


def choose_sizes(x: Floats, roles: NDArray[np.object_], catalogue: int, seed: int) -> Sizing:
    """Levels and sizes for a catalogue.

    Of the prefixes that meet the head coverage (of all, where none does) it takes the one whose median cluster is
    nearest to the middle of the range, 63 ids. The same vectors in the same order give the same sizes. Head coverage
    of a sample is below that of the whole.

    Args:
        x: vectors (N, D) of a sample of the catalogue, or all.
        roles: (N,) teacher, student, none or None.
        catalogue: ids in all.
        seed: of k-means.

    Raises:
        DataError: with fewer than two distinct vectors.
    """
    step = ceil(len(x) / SEARCH_ROWS)
    rows, roles = layer_norm(x[::step]), roles[::step]
    require_distinct(rows, [2])
    tried = list(_prefixes(rows, roles, catalogue, seed))
    best = min([prefix for prefix in tried if prefix.covers] or tried, key=lambda prefix: prefix.misfit)
    last = _power_of_two(min(LAST_LEVEL, len(rows) / 4))
    sizes = [*best.sizes, last] if last > 1 else best.sizes
    wanted = f"wanted: median {MEDIAN[0]} to {MEDIAN[1]}, head coverage {HEAD_COVERAGE:.2f}"
    found = "" if best.covers and best.misfit[0] == 0 else "; no size meets both, this is the nearest"
    others = ", ".join(str(prefix) for prefix in tried if prefix is not best)
    return Sizing(sizes, f"sizes auto: clusters of {best}, {wanted}{found}; not {others or 'any other'}")


def _prefixes(x: Floats, roles: NDArray[np.object_], catalogue: int, seed: int) -> Iterator[Prefix]:
    """From fine to coarse, until students have teachers and clusters are too large."""
    clusters = _power_of_two(min(catalogue / MEDIAN[0], len(x) / ROWS_A_CLUSTER))
    for bits in range(max(1, int(log2(clusters))), 0, -1):
        prefix = _measured(x, roles, _levels(bits), catalogue, seed)
        yield prefix
        if prefix.covers and prefix.median > MEDIAN[1]:
            return


def _levels(bits: int) -> list[int]:
    """2 ** bits clusters as levels of about the same size, none above its limit."""
    levels = ceil(bits / MAX_BITS_A_LEVEL)
    return [2 ** (bits // levels + (level < bits % levels)) for level in range(levels)]


def _measured(x: Floats, roles: NDArray[np.object_], sizes: list[int], catalogue: int, seed: int) -> Prefix:
    codes = residual_kmeans(x, sizes, seed)[1]
    cluster, counts = np.unique(codes, axis=0, return_inverse=True, return_counts=True)[1:]
    taught = np.bincount(cluster[roles == "teacher"], minlength=len(counts)) > 0
    students = cluster[roles == "student"]
    head_coverage = float(taught[students].mean()) if len(students) else None
    return Prefix(sizes, float(np.median(counts)) * catalogue / len(x), head_coverage)


def _power_of_two(limit: float) -> int:
    """The largest one not above ``limit``; at least 1."""
    return 2 ** int(log2(max(limit, 1)))
