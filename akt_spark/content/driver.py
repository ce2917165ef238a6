"""Training data of the two content models, brought to the driver; every collection is bounded by the configuration."""

from __future__ import annotations

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from akt_spark.content.alignment_batches import PairData
from akt_spark.content.arrow import vectors_from_arrow
from akt_spark.content.head import ProjectionHead
from akt_spark.content.next_click import ClickData
from akt_spark.content.prompt_data import PromptData
from akt_spark.content.prompt_rows import daily_activity, day_number, item_label, leaf
from akt_spark.content.registry import EncoderRecord
from akt_spark.content.user_rows import held_out_user, item_vectors, user_inputs
from akt_spark.features.log import click_log
from akt_spark.features.pairs import positives_until
from akt_spark.stage import Context

CATEGORIES = 1000  # rarer leaf categories are not predicted


def pair_data(ctx: Context, revision: str) -> tuple[PairData, pd.Series, list[str]]:
    """Pairs of ``content.item_pairs`` with the raw vectors of their items and of others that recall searches.

    Returns:
        The data; the item_id of its N items; and lines for the summary.
    """
    config = ctx.config.alignment
    stored = ctx.lake.read("content.item_pairs")
    all_pairs = stored.count()
    # whole anchors: a sample of single pairs would leave each with few of its partners
    pairs = _sample(stored, all_pairs, config.max_pairs, "item_id", "positive_id").toPandas()
    limit = min(config.max_candidates, config.lora.max_items) if config.method == "lora" else config.max_candidates
    ends = pd.DataFrame({"item_id": _first_items(pairs, limit), "paired": True})
    items = item_vectors(ctx, revision).join(
        ctx.spark.createDataFrame(ends, "item_id STRING, paired BOOLEAN"), on="item_id", how="left"
    )
    count = items.count()
    catalogue = ctx.lake.read("bronze.items").select("item_id", leaf())
    chosen = _candidates(items, count, limit).join(catalogue, on="item_id", how="left")
    ids, vectors = _collect(chosen, ("item_id", "leaf"), "vector")
    place = pd.Series(np.arange(len(ids)), index=ids["item_id"])
    ends = np.stack([place.reindex(pairs[name]).to_numpy() for name in ("item_id", "positive_id")], axis=1)
    there = ~np.isnan(ends).any(axis=1)  # an item whose embedding failed has no vector
    ends, held_out = ends[there].astype(np.int64), pairs["held_out"].to_numpy(dtype=bool)[there]
    notes = [
        f"pairs: {all_pairs:,} in content.item_pairs, {(~held_out).sum():,} trained on, {held_out.sum():,} held out"
        + (f" (a sample: alignment.max_pairs is {config.max_pairs:,})" if all_pairs > config.max_pairs else ""),
    ]
    if count > len(ids):
        key = "alignment.lora.max_items" if limit < config.max_candidates else "alignment.max_candidates"
        notes.append(f"pairs and recall are of {len(ids):,} of {count:,} items ({key})")
    order = np.lexsort((ends[:, 1], ends[:, 0]))  # nothing may depend on the order that Spark returns
    ends, held_out = ends[order], held_out[order]
    category = pd.factorize(ids["leaf"], sort=True)[0].astype(np.int64)
    return PairData(vectors, ends[~held_out], ends[held_out], category), ids["item_id"], notes


def _first_items(pairs: pd.DataFrame, limit: int) -> np.ndarray:
    """At most ``limit`` items of pairs: those of the first pairs, anchors in the order of a hash."""
    order = pd.util.hash_array(pairs["item_id"].to_numpy(dtype=object)).argsort(kind="stable")
    return pd.unique(pairs[["item_id", "positive_id"]].iloc[order].to_numpy().ravel())[:limit]


def click_data(ctx: Context, item: EncoderRecord, head: ProjectionHead) -> ClickData:
    """Histories of users with at least 2 training-period clicks, and the aligned vectors of what they clicked."""
    return _click_data(ctx, item, head)[0]


def prompt_data(ctx: Context, item: EncoderRecord, head: ProjectionHead) -> PromptData:
    """`click_data`, and what else a prompt tells of the same users and items, of the training period only."""
    clicks, people, items = _click_data(ctx, item, head)
    train_end, config = ctx.config.split.train_end(ctx.ds), ctx.config.interest
    wanted = ctx.spark.createDataFrame(people[["user_id"]], "user_id STRING")
    events = click_log(ctx).join(wanted, on="user_id", how="left_semi")
    counted = daily_activity(events, train_end, config.events).toPandas().sort_values(["user_id", "day"])
    activity = {
        user: rows[["day", "clicks", "buys"]].to_numpy(dtype=np.int64) for user, rows in counted.groupby("user_id")
    }
    nothing = np.empty((0, 3), dtype=np.int64)
    return PromptData(
        clicks=clicks,
        labels=list(items["label"]),
        days=[np.array(days, dtype=np.int64) for days in people["days"]],
        profiles=list(people["told"]),
        activity=[activity.get(user, nothing) for user in people["user_id"]],
        now=day_number(train_end) + 1,
        period=config.days,
    )


def _click_data(
    ctx: Context, item: EncoderRecord, head: ProjectionHead
) -> tuple[ClickData, pd.DataFrame, pd.DataFrame]:
    """The data; and the rows of its users and items, which tell more."""
    config = ctx.config.interest
    clicks = positives_until(click_log(ctx), ctx.config.split.train_end(ctx.ds), config.events)
    raw = item_vectors(ctx, item.base_revision)
    users = user_inputs(ctx.lake.read_rows("bronze.users"), clicks, raw, config).where(F.size("history") >= 2)
    chosen = _sample(users, users.count(), config.max_users, "user_id").select(
        "user_id", "history", "days", "profile", "told"
    )
    people = chosen.withColumn("held_out", held_out_user(config)).toPandas().sort_values("user_id")
    clicked = chosen.select(F.explode("history").alias("item_id")).distinct()
    catalogue = ctx.lake.read("bronze.items").select("item_id", leaf(), item_label())
    found = raw.join(clicked, on="item_id", how="left_semi").join(catalogue, on="item_id", how="left")
    ids, vectors = _collect(found, ("item_id", "leaf", "label"), "vector")
    place = {item_id: number for number, item_id in enumerate(ids["item_id"])}
    leaves = {leaf: number for number, leaf in enumerate(ids["leaf"].value_counts().index[:CATEGORIES])}
    data = ClickData(
        vectors=head.project(vectors),
        category=ids["leaf"].map(leaves).fillna(-1).to_numpy(dtype=np.int64),
        categories=len(leaves),
        histories=[np.array([place[item_id] for item_id in history]) for history in people["history"]],
        profiles=[list(profile) for profile in people["profile"]],
        held_out=people["held_out"].to_numpy(dtype=bool),
    )
    return data, people, ids


def _sample(rows: DataFrame, count: int, limit: int, *key: str) -> DataFrame:
    """At most ``limit`` rows, the same ones every time; those of one value of the first column stay together."""
    return rows if count <= limit else rows.orderBy(F.xxhash64(key[0]), *key).limit(limit)


def _candidates(items: DataFrame, count: int, limit: int) -> DataFrame:
    """At most ``limit`` items, those with pairs first."""
    if count <= limit:
        return items
    return items.orderBy(F.desc_nulls_last("paired"), F.xxhash64("item_id"), "item_id").limit(limit)


def _collect(rows: DataFrame, columns: tuple[str, ...], vector: str) -> tuple[pd.DataFrame, np.ndarray]:
    """Rows sorted by their first column: the given columns, and their vectors (N, dim) as one flat buffer."""
    table = rows.select(*columns, vector).toArrow()
    frame = table.select(list(columns)).to_pandas()
    order = frame[columns[0]].argsort(kind="stable").to_numpy()
    flat = table.column(vector)
    dim = len(flat[0]) if len(flat) else 1
    return frame.iloc[order].reset_index(drop=True), vectors_from_arrow(flat, dim)[order]
