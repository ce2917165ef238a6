"""The data gate: a night whose raw data looks wrong stops before any of it is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from akt_spark.config import IngestConfig
from akt_spark.errors import ConfigError, DataError
from akt_spark.sources.accounts import Tally
from akt_spark.sources.raw import LEFT_OUT, VERDICT
from akt_spark.stage import Context


def check_gate(
    ctx: Context, judged: Mapping[str, DataFrame], events: DataFrame, tallies: Mapping[str, Tally]
) -> list[str]:
    """Compares a night's raw data with ``ingest`` of the configuration and with the days before in the lake.

    Args:
        ctx: the stage.
        judged: raw rows of events, items and users with their verdicts.
        events: accepted events without duplicates.
        tallies: their counts.

    Returns:
        Lines for the summary.

    Raises:
        DataError: naming everything that is out of bounds, the bound, and its key.
        ConfigError: ``ingest.max_null_share`` names a column that there is not.
    """
    config = ctx.config.ingest
    broken = [*_rejected(tallies, config), *_nulls(judged, config)]
    day = _day(ctx, events)
    broken += _out_of_bounds(day, config)
    if broken:
        raise DataError(
            f"the data gate is closed for {ctx.ds}: " + "; ".join(broken) + ". Nothing was loaded. Mend the raw data,"
            " or, where it is as it should be, change the bound (--set ingest.KEY=VALUE) and run the job again"
        )
    if day["before"] is None:
        return []
    return [f"gate: {day['events']:,} events of {ctx.ds}, {day['before']:,.0f} a day before"]


def _rejected(tallies: Mapping[str, Tally], config: IngestConfig) -> Iterator[str]:
    for name, kind in tallies.items():
        unwanted = kind.rejected.get(LEFT_OUT, 0)
        due = kind.rows - kind.not_yet - unwanted
        share = (kind.quarantined - unwanted) / due if due else 0.0
        if share > config.max_rejected_share:
            reasons = ", ".join(f"{count:,} {why}" for why, count in kind.rejected.items())
            bound = f"more than max_rejected_share {config.max_rejected_share:.1%}"
            yield f"{share:.1%} of {due:,} {name} are rejected, {bound} ({reasons}; the rows are in bronze.quarantine)"


def _nulls(judged: Mapping[str, DataFrame], config: IngestConfig) -> Iterator[str]:
    """Columns of accepted rows with more nulls than allowed; one pass over a table that is asked for."""
    for name, rows in judged.items():
        bounds = {
            key.split(".", 1)[1]: share for key, share in config.max_null_share.items() if key.split(".")[0] == name
        }
        if unknown := set(bounds) - set(rows.columns):
            raise ConfigError(f"ingest.max_null_share: {name} have no column {', '.join(sorted(unknown))}")
        if bounds:
            accepted = rows.where(F.col(VERDICT).isNull())
            shares = accepted.agg(
                *(F.mean(F.col(column).isNull().cast("int")).alias(column) for column in bounds)
            ).head()
            for column, bound in bounds.items():
                if (shares[column] or 0.0) > bound:
                    yield f"{shares[column]:.1%} of {name}.{column} are null, more than max_null_share {bound:.1%}"


def _day(ctx: Context, events: DataFrame) -> dict[str, float | None]:
    """Events of the day, those of unknown items and users, and the mean of the days before (null without any)."""
    lake, ds = ctx.lake, ctx.ds
    for table in ("bronze.events", "features.item_index", "features.user_index"):
        lake.register(table)
    first = ds - timedelta(days=ctx.config.ingest.volume_days)
    before = lake.read("bronze.events").where((F.col("ds") >= F.lit(first)) & (F.col("ds") < F.lit(ds)))
    mean = before.agg((F.count("*") / F.nullif(F.count_distinct("ds"), F.lit(0))).alias("mean")).head()["mean"]
    if mean is None:
        return {"events": None, "before": None}
    today = events.where(F.col("ds") == F.lit(ds))
    for entity in ("item", "user"):
        known = lake.read(f"features.{entity}_index").select(f"{entity}_id", F.lit(True).alias(f"known_{entity}"))
        today = today.join(known, on=f"{entity}_id", how="left")
    new = [F.count_if(F.col(f"known_{entity}").isNull()).alias(entity) for entity in ("item", "user")]
    return {"before": mean} | today.agg(F.count("*").alias("events"), *new).head().asDict()


def _out_of_bounds(day: Mapping[str, float | None], config: IngestConfig) -> Iterator[str]:
    if day["before"] is None:
        return
    volume = day["events"] / day["before"]
    if not config.min_volume <= volume <= config.max_volume:
        yield (
            f"{day['events']:,} events are {volume:.2f} of the {day['before']:,.0f} a day before, not between"
            f" min_volume {config.min_volume} and max_volume {config.max_volume}"
        )
    for entity in ("item", "user"):
        bound, key = getattr(config, f"max_new_{entity}_share"), f"max_new_{entity}_share"
        share = day[entity] / day["events"] if day["events"] else 0.0
        if share > bound:
            yield f"{share:.1%} of the events are of unknown {entity}s, more than {key} {bound:.1%}"
