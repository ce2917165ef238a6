"""Which items have a pair to be trained on: by head, mid and tail."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from akt_spark.config import SegmentConfig
from akt_spark.features.segments import with_role

# the rule that chooses teachers and students also tells the segments of coverage apart
SEGMENTS = {"teacher": "head", "none": "mid", "student": "tail"}


def pair_coverage(items: DataFrame, pairs: DataFrame, events: DataFrame, config: SegmentConfig) -> dict[str, float]:
    """Share of items with a pair, and number of items, a segment.

    Head, mid and tail are the teachers, those between, and the students of ``segments.item``, by impressions in the
    given events; in a log without impressions, by its events.

    Args:
        items: item_id of the whole catalogue.
        pairs: item_id, positive_id.
        events: the training period.
        config: the rule.

    Returns:
        coverage_head, coverage_mid, coverage_tail in [0, 1]; items_head, items_mid, items_tail.
    """
    shown = F.count_if(F.col("event_type") == "impression")
    seen = events.groupBy("item_id").agg(shown.alias("shown"), F.count("*").alias("events"))
    no_impressions = seen.agg(F.sum("shown")).head()[0] in (0, None)
    counted = seen.select("item_id", F.col("events" if no_impressions else "shown").alias("impressions"))
    counts = items.select("item_id").join(counted, on="item_id", how="left").fillna(0, ["impressions"])
    paired = pairs.select("item_id").union(pairs.select("positive_id")).distinct().withColumn("paired", F.lit(1.0))
    found = (
        with_role(counts, config)
        .join(paired, on="item_id", how="left")
        .groupBy("role")
        .agg(F.avg(F.coalesce("paired", F.lit(0.0))).alias("share"), F.count("*").alias("items"))
    )
    by_role = {row["role"]: row for row in found.collect()}
    measures = {}
    for role, segment in SEGMENTS.items():
        row = by_role.get(role)
        measures[f"coverage_{segment}"] = float(row["share"]) if row else 0.0
        measures[f"items_{segment}"] = float(row["items"]) if row else 0.0
    return measures


def coverage_note(coverage: dict[str, float]) -> str:
    """The line of the summary."""
    parts = (f"{coverage[f'coverage_{s}']:.1%} of {coverage[f'items_{s}']:,.0f} {s} items" for s in SEGMENTS.values())
    return f"pairs cover {', '.join(parts)}"
