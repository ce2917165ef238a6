"""Example clusters of items with their titles and pictures, drawn by a hash so that nobody picked the pretty ones."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

from PIL import Image
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

MIN_MEMBERS = 4
SHOWN_OF_A_KIND = 4
THUMBNAIL = (72, 96)  # pixels


@dataclass(frozen=True)
class Member:
    """An item of a cluster; picture is a data URI or None."""

    title: str
    category: str
    segment: str
    impressions: int
    picture: str | None


@dataclass(frozen=True)
class Cluster:
    """Items that share a prefix of the semantic ID: the most shown of its head and of its tail."""

    prefix: str
    members: int
    heads: int
    shown: list[Member]


def example_clusters(items: DataFrame, catalogue: DataFrame, count: int) -> list[Cluster]:
    """Clusters drawn at random among those with a head and a tail item.

    The prefix is the longest that still gives ``count`` such clusters of at least `MIN_MEMBERS` items; without any,
    the first code.

    Args:
        items: training.items.
        catalogue: bronze.items.
        count: clusters to show.
    """
    coded = items.where(F.col("codes").isNotNull()).select("item_id", "segment", "impressions", "codes")
    summary = _clusters(coded).persist()
    try:
        eligible = _eligible(summary, count)
        drawn = eligible.orderBy(F.xxhash64("prefix"), "prefix").limit(count).collect()
    finally:
        summary.unpersist()
    if not drawn:
        return []
    length = drawn[0]["length"]
    members = _members(coded, catalogue, length, [row["prefix"] for row in drawn])
    return [
        Cluster(row["prefix"], row["members"], row["heads"], members.get(row["prefix"], []))
        for row in sorted(drawn, key=lambda row: [int(code) for code in row["prefix"].split("-")])
    ]


def _prefix(length: Column) -> Column:
    return F.array_join(F.slice("codes", F.lit(1), length), "-")


def _clusters(coded: DataFrame) -> DataFrame:
    """length, prefix, members, heads: one row a prefix of any length."""
    prefixes = coded.withColumn("length", F.explode(F.sequence(F.lit(1), F.size("codes"))))
    head = (F.col("segment") == "head").cast("int")
    return (
        prefixes.withColumn("prefix", _prefix(F.col("length")))
        .groupBy("length", "prefix")
        .agg(F.count("*").alias("members"), F.sum(head).alias("heads"))
    )


def _eligible(summary: DataFrame, count: int) -> DataFrame:
    """The clusters among which examples are drawn, all of one prefix length."""
    mixed = (F.col("heads") > 0) & (F.col("heads") < F.col("members"))
    readable = summary.where(mixed & (F.col("members") >= MIN_MEMBERS))
    lengths = {row["length"]: row["count"] for row in readable.groupBy("length").count().collect()}
    if not lengths:
        return summary.where(F.col("length") == 1)
    enough = [length for length, clusters in lengths.items() if clusters >= count]
    return readable.where(F.col("length") == (max(enough) if enough else min(lengths)))


def _members(coded: DataFrame, catalogue: DataFrame, length: int, prefixes: list[str]) -> dict[str, list[Member]]:
    """The most shown items of every drawn cluster, head items first."""
    is_head = F.col("segment") == "head"
    rank = F.row_number().over(Window.partitionBy("prefix", is_head).orderBy(F.desc("impressions"), "item_id"))
    chosen = (
        coded.withColumn("prefix", _prefix(F.lit(length)))
        .where(F.col("prefix").isin(prefixes))
        .withColumn("rank", rank)
        .where(F.col("rank") <= SHOWN_OF_A_KIND)
    )
    details = catalogue.select("item_id", "title", "category", "image")
    rows = chosen.join(details, on="item_id", how="left").orderBy("prefix", F.desc(is_head), "rank").collect()
    members: dict[str, list[Member]] = {}
    for row in rows:
        members.setdefault(row["prefix"], []).append(
            Member(
                title=row["title"] or row["item_id"],
                category=" / ".join((row["category"] or [])[:3]),
                segment=row["segment"],
                impressions=row["impressions"],
                picture=_thumbnail(row["image"]),
            )
        )
    return members


def _thumbnail(image: bytes | None) -> str | None:
    """A small JPEG as a data URI; None where there is no image or it cannot be decoded."""
    if not image:
        return None
    try:
        picture = Image.open(io.BytesIO(image)).convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None  # Pillow's ways to refuse a file; content.item_embeddings flags it, here a placeholder stands in
    picture.thumbnail((THUMBNAIL[0] * 2, THUMBNAIL[1] * 2))
    encoded = io.BytesIO()
    picture.save(encoded, "JPEG", quality=72)
    return "data:image/jpeg;base64," + base64.b64encode(encoded.getvalue()).decode()
