"""From a log to scores: where labels say nothing of items, no ranker may find anything inside a user."""

from __future__ import annotations

import random
from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import SparkSession
from sklearn.metrics import roc_auc_score

from akt_spark.conf_file import load
from akt_spark.features import activity, samples
from akt_spark.lake import Lake
from akt_spark.stage import Context
from akt_spark.training import score, train

DS, START, DAYS = date(2024, 1, 31), datetime(2024, 1, 1, tzinfo=UTC), 31
USERS, ITEMS, CLUSTERS, SHOWN = 150, 60, 6, 120
SETTINGS = [
    "split={validation_days: 1, test_days: 14}",
    "features.sequence_length=10",
    "segments={item: {rule: quantile}, user: {rule: quantile}}",
    "ranker.model={dim: 8, hidden: [16], recent: 5, searched: 5, attention_hidden: 8, students_per_step: 32}",
    "ranker.variants={base: {preset: base}, din: {preset: din}, recommended: {preset: recommended}}",
    "training={seeds: [1, 2, 3], backend: inline, ranks: 1, epochs: 3, batch_size: 128, reader: arrow, "
    "learning_rate: 0.005, id_learning_rate: 0.01}",
]

Impression = tuple[str, str, datetime, bool]  # user, item, time, clicked


def impressions(shuffled: bool) -> list[Impression]:
    """A log in which users click on items of two clusters; or the same with each user's clicks dealt to its rows."""
    draw, log = random.Random(3), []
    for user in range(USERS):
        liked, eager = draw.sample(range(CLUSTERS), 2), draw.uniform(0.05, 0.3)
        minutes = draw.sample(range(DAYS * 24 * 60), SHOWN)
        items = [int(ITEMS * draw.random() ** 2) for _ in minutes]
        clicks = [draw.random() < eager + 0.5 * (item % CLUSTERS in liked) for item in items]
        if shuffled:
            draw.shuffle(clicks)
        times = [START + timedelta(minutes=minute) for minute in minutes]
        log += [(f"u{user}", f"i{item}", *rest) for item, *rest in zip(items, times, clicks, strict=True)]
    return log


def prepared(spark: SparkSession, root: Path, log: list[Impression]) -> Context:
    """A lake with the log, and with semantic IDs and vectors that know the clusters of items."""
    lake = Lake(spark, str(root))

    def write(table: str, rows: list[dict]) -> None:
        lake.overwrite(table, spark.createDataFrame(rows, lake.schema(table)))

    def event(number: int, user: str, item: str, time: datetime, kind: str) -> dict:
        who = {"event_id": f"{number}-{kind}", "user_id": user, "item_id": item}
        return who | {"event_type": kind, "event_time": time, "ds": time.date()}

    events = []
    for number, (user, item, time, clicked) in enumerate(log):
        events.append(event(number, user, item, time, "impression"))
        if clicked:
            events.append(event(number, user, item, time + timedelta(seconds=20), "click"))
    write("bronze.events", [row for row in events if row["ds"] <= DS])
    write("bronze.items", [{"item_id": f"i{n}", "title": "t", "content_hash": "h"} for n in range(ITEMS)])
    write("bronze.users", [{"user_id": f"u{n}", "profile": {}} for n in range(USERS)])
    book = {"codebook_version": "v", "quantizer": "rqvae", "sizes": [CLUSTERS, 2], "path": "p", "encoder_revision": "r"}
    book |= {"config_hash": "h", "status": "published", "fitted_ds": START.date()}
    encoder = {"stage": "aligned", "family": "f", "dim": 8, "config_hash": "h", "status": "registered"}
    encoder |= {"trained_until": START.date(), "ds": START.date(), "chosen_at": START}
    rng = np.random.default_rng(1)
    centres = rng.normal(size=(CLUSTERS, 8))
    both = {"item": ITEMS, "user": USERS}
    write("semantic.codebooks", [book | {"entity": entity} for entity in both])
    write("content.encoders", [encoder | {"entity": entity, "revision": entity} for entity in both])
    for entity, count in both.items():
        ids = [{f"{entity}_id": f"{entity[0]}{n}", "content_hash": "h"} for n in range(count)]
        write(
            f"features.{entity}_index",
            [{f"{entity}_id": row[f"{entity}_id"], "idx": n} for n, row in enumerate(ids, 1)],
        )
        sid = {"codebook_version": "v", "sid": "s", "offset_codes": [0], "distance": 0.5, "margin": 0.5}
        sid |= {"assigned_ds": START.date()}
        codes = [[n % CLUSTERS, n // CLUSTERS % 2] for n in range(count)]
        write(f"semantic.{entity}_ids", [row | sid | {"codes": of} for row, of in zip(ids, codes, strict=True)])
        vectors = centres[np.arange(count) % CLUSTERS] + 0.3 * rng.normal(size=(count, 8))
        more = {"as_of": START.date(), "revision": entity} | ({"clicks": 1} if entity == "user" else {})
        write(
            f"content.{entity}_embeddings",
            [row | more | {"vector": vector.tolist()} for row, vector in zip(ids, vectors, strict=True)],
        )
    config = load(None, [f"lake.root={root}", "spark.shuffle_partitions=2", *SETTINGS])
    return Context(spark, lake, config, DS, "run")


def gauc(ctx: Context) -> dict[str, list[float]]:
    """GAUC of every variant and seed over the test period."""
    for stage in (activity, samples, train, score):
        stage.run(ctx)
    found = defaultdict(list)
    for (variant, _), rows in ctx.lake.read("serving.predictions").toPandas().groupby(["variant", "seed"]):
        users = [user for _, user in rows.groupby("user_idx") if user["label"].nunique() == 2]
        found[variant].append(
            np.average(
                [roc_auc_score(user["label"], user["score"]) for user in users], weights=[len(user) for user in users]
            )
        )
    return found


@pytest.mark.night
@pytest.mark.parametrize("shuffled", [True, False])
def test_labels_shuffled_within_users_leave_every_ranker_at_a_gauc_of_one_half(spark, tmp_path, shuffled) -> None:
    """About 8,000 test rows of 150 users: chance alone moves a GAUC by .007, so .03 is four times that."""
    found = gauc(prepared(spark, tmp_path / "lake", impressions(shuffled)))
    assert {variant: len(values) for variant, values in found.items()} == {"base": 3, "din": 3, "recommended": 3}
    means = {variant: np.mean(values) for variant, values in found.items()}
    if shuffled:
        assert all(abs(mean - 0.5) < 0.03 for mean in means.values()), means
    else:  # the same log with its labels as they are can be ranked: the test could fail
        assert all(mean > 0.6 for mean in means.values()), means
