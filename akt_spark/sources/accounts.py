"""Where every raw row went: counted by verdict, and kept in the quarantine when it was rejected."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from akt_spark.quarantine import write_quarantine
from akt_spark.sources.raw import ROW_JSON
from akt_spark.sources.validate import NOT_YET, VERDICT, rule
from akt_spark.stage import Context


@dataclass(frozen=True)
class Tally:
    """Where the raw rows of one kind went.

    Attributes:
        rows: rows read; the sum of all others.
        accepted: rows accepted.
        rejected: rows quarantined, by the rule that they broke.
        duplicates: rows that repeat an accepted one.
        not_yet: events of later days.
    """

    rows: int
    accepted: int
    rejected: Mapping[str, int]
    duplicates: int = 0
    not_yet: int = 0

    @property
    def quarantined(self) -> int:
        """Rejected rows."""
        return sum(self.rejected.values())

    def __str__(self) -> str:
        if not self.rows:
            return "no rows in the source"
        parts = {"duplicates": self.duplicates, "quarantined": self.quarantined, "not yet due": self.not_yet}
        added = [f" + {count:,} {name}" for name, count in parts.items() if count]
        return f"{self.rows:,} rows read = {self.accepted:,} accepted{''.join(added)}"


def tally(judged: Mapping[str, DataFrame]) -> dict[str, Tally]:
    """Counts all judged rows by verdict, in one job."""
    kinds = [
        rows.select(F.lit(name).alias("name"), rule(F.col(VERDICT)).alias("rule")) for name, rows in judged.items()
    ]
    counts = {name: Counter[str | None]() for name in judged}
    for name, broken_rule, count in reduce(DataFrame.union, kinds).groupBy("name", "rule").count().collect():
        counts[name][broken_rule] = count
    return {
        name: Tally(
            rows=verdicts.total(),
            accepted=verdicts[None],
            rejected={why: count for why, count in sorted(verdicts.items(), key=str) if why not in (None, NOT_YET)},
            not_yet=verdicts[NOT_YET],
        )
        for name, verdicts in counts.items()
    }


def quarantine(ctx: Context, judged: Mapping[str, DataFrame], count: int) -> None:
    """Writes the ``count`` rejected rows of this run; what a run of the same id wrote before is replaced."""
    rejected = {
        source: rows.where(F.col(VERDICT) != NOT_YET).select(F.col(VERDICT).alias("reason"), ROW_JSON)
        for source, rows in judged.items()
    }
    write_quarantine(ctx, rejected, count)
