"""The quarantine: every rejected row, of every stage, with its reason."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from akt_spark.stage import Context

QUARANTINE = "bronze.quarantine"


def write_quarantine(ctx: Context, rejected: Mapping[str, DataFrame], count: int) -> None:
    """Writes rejected rows; those that a run of the same id wrote before from the same sources are replaced.

    Where both are the same, nothing is written.

    Args:
        ctx: the run.
        rejected: source: reason, row_json.
        count: rows in all of them.
    """
    of_sources = ", ".join(f"'{source}'" for source in rejected)
    where = f"run_id = '{ctx.run_id}' AND source IN ({of_sources})"
    ctx.lake.register(QUARANTINE)
    before = ctx.lake.read(QUARANTINE).where(where)
    if not count and before.isEmpty():
        return
    run = (F.lit(ctx.ds).alias("ds"), F.lit(ctx.run_id).alias("run_id"))
    parts = [rows.select(F.lit(name).alias("source"), "reason", "row_json", *run) for name, rows in rejected.items()]
    now = reduce(DataFrame.union, parts)
    before = before.select(now.columns)
    if not (now.exceptAll(before).isEmpty() and before.exceptAll(now).isEmpty()):
        ctx.lake.overwrite(QUARANTINE, now, where)
