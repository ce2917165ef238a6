"""A night that ended on 20 January on a small log, and what came to the log on the day after it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from evaluation.lakes import write
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from training.conftest import HISTORY, ITEMS, TINY, USERS, lookup_table

from akt_spark.conf_file import load
from akt_spark.config import Config
from akt_spark.features.activity import ENTITIES, activity_log, daily_counts
from akt_spark.features.blocks import block_counts, placed_in_blocks
from akt_spark.features.samples import labelled_events, sample_features
from akt_spark.lake import Lake
from akt_spark.stage import Context
from akt_spark.training import score, train

DS = date(2024, 1, 20)
NEXT_DAY = datetime(2024, 1, 21, tzinfo=UTC)
SPLITS = (("train", 14), ("validation", 17), ("test", 20))  # and its last day
LATER = [  # what no ranker knows: a user and an item that came after its samples were made
    ("newcomer", "item1", "click", NEXT_DAY + timedelta(hours=1)),
    ("newcomer", "novelty", "click", NEXT_DAY + timedelta(hours=2)),
    ("user1", "item2", "click", NEXT_DAY + timedelta(hours=3)),
]


@dataclass(frozen=True)
class World:
    """The lake, and two configurations: that of the night, and one that says nothing but where the lake is."""

    lake: Lake
    night: Config
    ctx: Context

    def with_settings(self, *settings: str) -> Context:
        """The context under other settings."""
        fixed = [f"lake.root={self.lake.root}", "spark.shuffle_partitions=2", "serving.variant=akt_rec"]
        config = load(None, [*fixed, *settings])
        return Context(self.lake.spark, self.lake, config, date.today(), "request")

    def rows(self, table: str, request: str) -> list[dict[str, Any]]:
        """What a table holds of a request."""
        return [row.asDict() for row in self.lake.read(table).where(F.col("request_id") == request).collect()]


@pytest.fixture(scope="package")
def world(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> World:
    """After train_ranker and score of the night. Tests may add requests, and change nothing else."""
    lake = Lake(spark, str(tmp_path_factory.mktemp("serving") / "lake"))
    night = _night(Path(lake.root))
    _log(lake)
    _samples(lake, night)
    ran = {"run_id": str(DS), "stage": "build_samples", "ds": DS, "status": "done"}
    version = {"training.samples": lake.version("training.samples")}
    write(lake, "ops.runs", [ran | {"config": night.model_dump_json(), "outputs": version}])
    ctx = Context(spark, lake, night, DS, str(DS))
    train.run(ctx)
    score.run(ctx)
    empty = World(lake, night, ctx)
    return World(lake, night, empty.with_settings())


@pytest.fixture
def table(tmp_path: Path) -> Callable[..., str]:
    """A CSV file of some columns and rows."""

    def save(columns: str, *rows: str, name: str = "asked.csv") -> str:
        path = tmp_path / name
        path.write_text("\n".join([columns, *rows]) + "\n")
        return str(path)

    return save


def _night(root: Path) -> Config:
    model = {
        key: value
        for key, value in TINY.model_dump(exclude_none=True).items()
        if key not in ("transfer", "orthogonality")
    }
    training = {"batch_size": 32, "epochs": 1, "backend": "inline", "ranks": 1, "id_learning_rate": 0.05}
    return load(
        None,
        [
            f"lake.root={root}",
            f"features.sequence_length={HISTORY}",
            "features.ctr_prior=0.25",
            "ranker.variants={akt_rec: {}, base: {preset: base}}",
            *(f"ranker.model.{key}={value}" for key, value in model.items()),
            *(f"training.{key}={value}" for key, value in training.items()),
        ],
    )


def _log(lake: Lake) -> None:
    """``bronze.events``, activity and indices: many of the things shown are clicked a minute later."""
    draw = random.Random(3)
    earlier = []
    for _ in range(500):
        user = f"user{1 + int((USERS - 1) * draw.random() ** 2)}"
        item = f"item{1 + int((ITEMS - 1) * draw.random() ** 2)}"
        when = datetime(2024, 1, 1 + draw.randrange(20), tzinfo=UTC) + timedelta(minutes=draw.randrange(1430))
        earlier.append((user, item, "impression", when))
        if draw.random() < 0.4:
            earlier.append((user, item, draw.choice(["click", "click", "purchase"]), when + timedelta(minutes=1)))
    rows = [
        {"event_id": f"e{n}", "user_id": user, "item_id": item, "event_type": kind, "event_time": when}
        | {"ds": when.date()}
        for n, (user, item, kind, when) in enumerate(earlier + LATER)
    ]
    write(lake, "bronze.events", rows)
    events = lake.read("bronze.events")
    strangers = {"user": "newcomer", "item": "novelty"}
    for entity, size in (("item", ITEMS), ("user", USERS)):
        lake.overwrite(f"features.{entity}_activity", activity_log(daily_counts(events, entity), entity))
        ids = [*(f"{entity}{idx}" for idx in range(1, size)), strangers[entity]]
        write(lake, f"features.{entity}_index", [{f"{entity}_id": id, "idx": idx} for idx, id in enumerate(ids, 1)])


def _samples(lake: Lake, night: Config) -> None:
    events = lake.read("bronze.events").where(F.col("ds") <= F.lit(DS))
    logs = {entity: lake.read(f"features.{entity}_activity") for entity in ENTITIES}
    indices = {}
    for entity, size in (("item", ITEMS), ("user", USERS)):
        rows = lake.spark.createDataFrame(lookup_table(size, entity))
        more = {"clicks": F.lit(0), "segment": F.lit("tail"), "codebook_version": F.lit("v1")}
        lake.overwrite(f"training.{entity}s", rows.withColumns(more))
        indices[entity] = lake.read(f"training.{entity}s").select(f"{entity}_id", "idx")
    labelled = labelled_events(events, logs["item"], events, night.samples, night.features)
    samples = sample_features(labelled, events, logs, indices, night.features).withColumn("split", _split())
    counts = block_counts({name: 1 for name, _ in SPLITS}, night.samples.block_rows, 1)
    lake.overwrite("training.samples", placed_in_blocks(samples, counts, seed=1))


def _split() -> Column:
    split = F.lit(None).cast("string")
    for name, last in reversed(SPLITS):
        split = F.when(F.dayofmonth("day") <= last, name).otherwise(split)
    return split


def pairs_of(users: DataFrame, items: DataFrame, when: datetime, folder: Path) -> str:
    """A Parquet table of every user with every item at one time."""
    rows = users.select("user_id").crossJoin(items.select("item_id")).withColumn("event_time", F.lit(when))
    rows.write.parquet(f"file://{folder}")
    return str(folder)
