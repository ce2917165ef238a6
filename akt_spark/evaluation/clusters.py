"""The cluster browser: items that share the first code of their semantic ID, with titles, categories and pictures."""

from __future__ import annotations

import base64
import io
from collections import defaultdict
from dataclasses import dataclass

from PIL import Image
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from akt_spark.config import ReportConfig

CATEGORIES = 3  # named for a cluster
THUMBNAIL = (72, 96)  # pixels


@dataclass(frozen=True)
class Member:
    """An item of a cluster; picture is a data URI or None."""

    sid: str
    title: str
    category: str
    segment: str
    teacher: bool
    impressions: int
    picture: str | None


@dataclass(frozen=True)
class Cluster:
    """All items with one first code.

    Attributes:
        code: the first code.
        members, heads, tails, colds, teachers: items, in all and by segment and role of the training period.
        impressions: of all of them in training.
        categories: the most frequent leaf categories, each with its share of the members.
        shown: its most shown head items, then its most shown others.
    """

    code: int
    members: int
    heads: int
    tails: int
    colds: int
    teachers: int
    impressions: int
    categories: list[tuple[str, float]]
    shown: list[Member]


def browse(items: DataFrame, catalogue: DataFrame, config: ReportConfig) -> list[Cluster]:
    """Clusters of the first code, in the order of their codes; of too many, ``config.clusters`` drawn by a hash.

    What is collected is bounded by the configuration: ``clusters`` times twice ``cluster_members`` items, with pictures
    of `THUMBNAIL` pixels.

    Args:
        items: training.items.
        catalogue: bronze.items.
        config: how much is shown.
    """
    coded = items.where(F.col("codes").isNotNull()).select(
        "item_id", "segment", "role", "impressions", "codes", F.col("codes")[0].alias("code")
    )
    counts = coded.groupBy("code").agg(
        F.count("*").alias("members"),
        *(F.count_if(F.col("segment") == name).alias(f"{name}s") for name in ("head", "tail", "cold")),
        F.count_if(F.col("role") == "teacher").alias("teachers"),
        F.sum("impressions").alias("impressions"),
    )
    chosen = counts.orderBy(F.xxhash64("code"), "code").limit(config.clusters).orderBy("code").collect()
    if not chosen:
        return []
    drawn = coded.where(F.col("code").isin([row["code"] for row in chosen]))
    details = catalogue.select("item_id", "title", "category", "image")
    categories, members = _categories(drawn, details), _members(drawn, details, config.cluster_members)
    return [Cluster(**row.asDict(), categories=categories[row["code"]], shown=members[row["code"]]) for row in chosen]


def _categories(coded: DataFrame, catalogue: DataFrame) -> dict[int, list[tuple[str, float]]]:
    """By code: the most frequent leaf categories, and their share of the items that have one."""
    leaf = F.try_element_at("category", F.lit(-1)).alias("leaf")
    named = coded.join(catalogue.select("item_id", leaf), on="item_id").where(F.col("leaf").isNotNull())
    counts = named.groupBy("code", "leaf").agg(F.count("*").alias("n"))
    of_code = Window.partitionBy("code")
    ranked = counts.select(
        "code",
        "leaf",
        (F.col("n") / F.sum("n").over(of_code)).alias("share"),
        F.row_number().over(of_code.orderBy(F.desc("n"), "leaf")).alias("rank"),
    )
    found = defaultdict(list)
    for row in ranked.where(F.col("rank") <= CATEGORIES).orderBy("code", "rank").collect():
        found[row["code"]].append((row["leaf"], row["share"]))
    return found


def _members(coded: DataFrame, catalogue: DataFrame, count: int) -> dict[int, list[Member]]:
    """By code: the ``count`` most shown head items, then as many of the others."""
    is_head = F.col("segment") == "head"
    rank = F.row_number().over(Window.partitionBy("code", is_head).orderBy(F.desc("impressions"), "item_id"))
    top = coded.withColumn("rank", rank).where(F.col("rank") <= count)
    picture = F.udf(thumbnail, "string")("image").alias("picture")  # where the photos are: only thumbnails travel
    shown = top.join(catalogue, on="item_id", how="left").select(*top.columns, "title", "category", picture)
    rows = shown.orderBy("code", F.desc(is_head), "rank").collect()
    found = defaultdict(list)
    for row in rows:
        member = Member(
            sid="-".join(map(str, row["codes"])),
            title=row["title"] or row["item_id"],
            category=" / ".join((row["category"] or [])[:3]),
            segment=row["segment"],
            teacher=row["role"] == "teacher",
            impressions=row["impressions"],
            picture=row["picture"],
        )
        found[row["code"]].append(member)
    return found


def thumbnail(image: bytes | None) -> str | None:
    """A small JPEG as a data URI; None where there is no image or it cannot be decoded."""
    if not image:
        return None
    try:
        picture = Image.open(io.BytesIO(image))
        picture.draft("RGB", (2 * THUMBNAIL[0], 2 * THUMBNAIL[1]))  # a JPEG is decoded no larger than it need be
        picture = picture.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None  # Pillow's ways to refuse a file; content.item_embeddings flags it, here a placeholder stands in
    picture.thumbnail(THUMBNAIL)
    encoded = io.BytesIO()
    picture.save(encoded, "JPEG", quality=72)
    return "data:image/jpeg;base64," + base64.b64encode(encoded.getvalue()).decode()
