"""Scores of pairs of a user and an item, each as of its own moment, in Spark's workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from akt_spark.features.activity import ENTITIES
from akt_spark.features.point_in_time import with_features
from akt_spark.serving.served import Served
from akt_spark.training.columns import to_arrays
from akt_spark.training.reader import to_batch
from akt_spark.training.score import Models, click_probability, load_rankers

INPUTS = ("user_idx", "item_idx", "history", "user_activity", "item_activity")  # what a ranker reads
PASSED = ("user_id", "item_id", "event_time", "user_idx", "item_idx")
SCHEMA = "user_id STRING, item_id STRING, event_time TIMESTAMP, user_idx INT, item_idx INT, score FLOAT"


def scored(served: Served, pairs: DataFrame) -> DataFrame:
    """Pairs (user_id, item_id, event_time) with the indices that the ranker knows them by, and ``score``.

    Their features are those of training samples (`with_features`): histories strictly before the time, activity of the
    days before its day.
    """
    moments = {"ds": F.to_date("event_time"), "event_order": F.lit(None).cast("bigint")}
    rows = with_features(
        pairs.withColumns(moments),
        served.events_of(pairs),
        {entity: served.log_of(entity, pairs) for entity in ENTITIES},
        {entity: served.index(entity) for entity in ENTITIES},
        served.features,
    )
    return rows.select(*dict.fromkeys((*PASSED, *INPUTS))).mapInArrow(_scorer(served.models), SCHEMA)


def _scorer(models: Models) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def score(pairs: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for rows in pairs:
            ((_, _, ranker),) = load_rankers(models)
            scores = click_probability(ranker, to_batch(to_arrays(rows, INPUTS)))
            columns = {name: rows.column(name) for name in PASSED} | {"score": pa.array(scores, pa.float32())}
            yield pa.RecordBatch.from_pydict(columns)

    return score
