"""One alignment as a folder: what it trains on, its checkpoint, and in the end its models.

The driver writes it; training needs nothing else, so that any process that sees the folder can do it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pandas as pd
from pyspark.sql import functions as F
from safetensors.numpy import save

from akt_spark.config import fingerprint
from akt_spark.content.alignment_batches import PairData
from akt_spark.content.encoders import EncoderSpec
from akt_spark.content.encoders.tuned import STATISTICS, TunedSpec
from akt_spark.content.prompts import PROMPT_COLUMNS
from akt_spark.content.registry import model_folder
from akt_spark.content.statistics import item_statistics, statistics_hash, with_statistics
from akt_spark.features.log import click_log
from akt_spark.lake import Lake
from akt_spark.stage import Context

PAIRS, ITEMS, ABOUT, CHECKPOINT = "pairs.safetensors", "items", "about.json", "checkpoint.safetensors"
HEAD, TUNED = "head", "tuned"


def stage_alignment(ctx: Context, data: PairData, item_ids: pd.Series, spec: EncoderSpec) -> Path:
    """Writes the folder of an alignment.

    Args:
        ctx: the run; its configuration says whether the encoder is trained, and so reads texts and images.
        data: pairs over N items.
        item_ids: (N,) sorted.
        spec: the encoder that made their vectors.

    Returns:
        The folder: the same one for the same data and configuration, so that a killed training goes on.
    """
    config, trained_until = ctx.config.alignment, ctx.config.split.train_end(ctx.ds)
    told = item_statistics(click_log(ctx), trained_until) if config.statistics else None
    about = {
        "base": spec.revision,
        "trained_until": trained_until.isoformat(),
        "statistics": statistics_hash(told) if told is not None else None,
    }
    content = save(vars(data))
    identity = fingerprint(about, config.decisive, hashlib.sha256(content).hexdigest())
    folder = ctx.lake.artifact("alignments", "item", identity)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / PAIRS).write_bytes(content)
    (folder / ABOUT).write_text(json.dumps(about))
    if config.method == "lora":
        image = F.col("image") if spec.use_images else F.lit(None).cast("binary")
        rows = ctx.lake.read("bronze.items").select("item_id", *PROMPT_COLUMNS, image.alias("image"))
        if told is not None:
            told.write.mode("overwrite").parquet(f"file://{folder / STATISTICS}")
            rows = with_statistics(rows, told)
        wanted = ctx.spark.createDataFrame(item_ids.to_frame("item_id"), "item_id STRING")
        chosen = rows.join(wanted, on="item_id", how="left_semi")
        chosen.write.mode("overwrite").parquet(f"file://{folder / ITEMS}")
    return folder


def publish_tuned(lake: Lake, folder: Path, base: EncoderSpec) -> TunedSpec:
    """Copies the adapters, and the statistics in their prompts, to where encoders lie; whole or not at all."""
    target = model_folder(lake, TunedSpec.read(base, folder / TUNED).revision)
    if not target.is_dir():
        unfinished = target.with_name(f".{target.name}.{folder.name}")
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(folder / TUNED, unfinished)
        if (folder / STATISTICS).is_dir():
            shutil.copytree(folder / STATISTICS, unfinished / STATISTICS)
        unfinished.rename(target)
    return TunedSpec.read(base, target)
