"""Users through the prompt model, in Spark: in the processes, and by the batches, that embed items."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pyarrow as pa
from pyspark import Accumulator
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from akt_spark.content import workers
from akt_spark.content.arrow import vectors_from_arrow
from akt_spark.content.encoding import Rows
from akt_spark.content.model_process import PackedSpec
from akt_spark.content.prompt_rows import item_label
from akt_spark.content.prompt_spec import PromptSpec
from akt_spark.content.resources import attempts, embedding_profile
from akt_spark.content.results import COLUMNS
from akt_spark.content.throughput import Work
from akt_spark.content.user_prompt import UserPrompt
from akt_spark.content.user_rows import with_vectors
from akt_spark.stage import Context

KEYS = ("user_id", "content_hash", "clicks")
FIELDS = f"user_id STRING, content_hash STRING, clicks INT, {COLUMNS}"


def encode_prompts(
    ctx: Context, users: DataFrame, vectors: DataFrame, spec: PromptSpec, count: int, work: Accumulator[Work]
) -> DataFrame:
    """Encodes ``count`` users, rows of `prompt_inputs`, on the workers: KEYS, error and vector."""
    config = ctx.config.encoder
    labels = ctx.lake.read("bronze.items").select("item_id", item_label())
    told = with_vectors(users, vectors.join(labels, on="item_id", how="left"), "label")
    inputs = told.select(
        "user_id", "content_hash", F.size("history").alias("clicks"), "told", "activity", "label", "vectors"
    )
    encode = partial(
        workers.embed_rows,
        read=partial(read_prompts, dim=spec.dim),
        keys=KEYS,
        spec=PackedSpec.of(spec),
        config=config,
        stall_seconds=config.stall_seconds / attempts(ctx.spark),
        total=work,
    )
    slots = ctx.spark.sparkContext.defaultParallelism
    tasks = slots * math.ceil(count / config.rows_per_task / slots)
    profile = embedding_profile(ctx.spark, config)
    encoded = inputs.repartition(max(1, min(tasks, count))).mapInArrow(encode, FIELDS, profile=profile)
    return encoded.select(*KEYS, "error", "vector")


def read_prompts(window: pa.Table, dim: int) -> Rows:
    """Prompts of rows with told, activity, label and vectors."""
    lists = window.column("vectors").combine_chunks()
    clicks = np.array(lists.value_lengths())
    vectors = np.split(vectors_from_arrow(lists.flatten(), dim), np.cumsum(clicks)[:-1])
    columns = (window.column(name).to_pylist() for name in ("told", "label", "activity"))
    prompts = [
        UserPrompt(told, labels, of_user, activity)
        for told, labels, activity, of_user in zip(*columns, vectors, strict=True)
    ]
    return Rows(prompts, [None] * len(prompts))
