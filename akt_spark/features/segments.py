"""Head and tail, teachers and students (method.md 5.3)."""

from __future__ import annotations

from datetime import date

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from akt_spark.config import SegmentConfig
from akt_spark.features.activity import as_of as activity_as_of
from akt_spark.lake import Lake


def segments(lake: Lake, entity: str, as_of: date, config: SegmentConfig) -> DataFrame:
    """Segment and role of every id of ``features.<entity>_index``, counted up to and including ``as_of``.

    Args:
        entity: ``item`` or ``user``; a user's impressions are the impressions shown to that user.

    Returns:
        <entity>_id, impressions, clicks, segment (head, tail, cold), role (teacher, student, none); impressions are
        what ``config.exposures`` counts as such.
    """
    id_column = f"{entity}_id"
    active = activity_as_of(lake.read(f"features.{entity}_activity"), as_of)
    known = lake.read(f"features.{entity}_index").select(id_column).join(active, on=id_column, how="left")
    shown = {"impressions": F.col("impressions"), "positives": F.col("clicks") + F.col("carts") + F.col("purchases")}
    exposures = {"impressions": shown[config.exposures], "clicks": F.col("clicks")}
    counts = known.select(id_column, *(F.coalesce(n, F.lit(0)).alias(name) for name, n in exposures.items()))
    return with_role(counts, config).select(
        id_column, "impressions", "clicks", _segment(config).alias("segment"), "role"
    )


def with_role(counts: DataFrame, config: SegmentConfig) -> DataFrame:
    """Adds ``role`` (teacher, student, none) to ids with their ``impressions``.

    Ids with equal counts share a role, so that no tie is broken by chance.
    """
    at_most, total = F.col("at_most"), F.col("total")
    shown, all_shown = _running(F.col("ids") * F.col("impressions"))
    shares = impression_counts(counts).select(
        "impressions",
        ((at_most - F.col("ids")) / total).alias("ids_below"),
        ((total - at_most) / total).alias("ids_above"),
        ((all_shown - shown) / all_shown).alias("impressions_above"),
    )
    role = _by_share(config) if config.rule == "quantile" else _by_count(config)
    ranked = counts.join(F.broadcast(shares), on="impressions", how="left")
    return ranked.select(*counts.columns, role.alias("role"))


def _segment(config: SegmentConfig) -> Column:
    impressions = F.col("impressions")
    return F.when(impressions == 0, "cold").when(impressions < config.tail_below, "tail").otherwise("head")


def _by_count(config: SegmentConfig) -> Column:
    """A teacher has as many impressions as asked for, and ids with more do not yet make up the share of impressions."""
    impressions = F.col("impressions")
    among_the_most_shown = F.col("impressions_above") < config.teacher_impressions
    teacher = (impressions >= config.teacher_at_least) & among_the_most_shown
    return F.when(impressions < config.student_below, "student").when(teacher, "teacher").otherwise("none")


def _by_share(config: SegmentConfig) -> Column:
    """The role by rank among ids with impressions; ids without any are students.

    A teacher has less than ``teacher_share`` of the ids above it, a student less than ``student_share`` below it, and a
    tie wide enough to be both is neither.
    """
    teacher, student = F.col("ids_above") < config.teacher_share, F.col("ids_below") < config.student_share
    return (
        F.when(F.col("impressions") == 0, "student")
        .when(teacher & student, "none")
        .when(teacher, "teacher")
        .when(student, "student")
        .otherwise("none")
    )


def impression_counts(ids: DataFrame) -> DataFrame:
    """The histogram of impressions, from which ranks with ties come without a global sort of ids.

    Args:
        ids: one row an id, with its ``impressions``.

    Returns:
        impressions (from 1), ids that have so many, at_most (ids that have from 1 to so many) and total (ids that have
        any): at most sqrt(2 * impressions of all ids) rows.
    """
    histogram = ids.where(F.col("impressions") > 0).groupBy("impressions").agg(F.count("*").alias("ids"))
    at_most, total = _running(F.col("ids"))
    return histogram.select("impressions", "ids", at_most.alias("at_most"), total.alias("total"))


def _running(weight: Column) -> tuple[Column, Column]:
    """Sums over a histogram, which is small: up to a row's impressions, and over all rows."""
    up_to = Window.orderBy("impressions").rowsBetween(Window.unboundedPreceding, Window.currentRow)
    return F.sum(weight).over(up_to), F.sum(weight).over(Window.partitionBy())
