"""Trains a staged alignment: in the driver's process, or in one task on an executor."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.numpy import load_file

from akt_spark.config import Config
from akt_spark.content.aligner import TunedAligner
from akt_spark.content.alignment import train_head, train_tuned
from akt_spark.content.alignment_batches import PairData
from akt_spark.content.artifacts import save_state
from akt_spark.content.encoders import EncoderSpec
from akt_spark.content.prompts import row_prompt
from akt_spark.content.resources import embedding_profile, task_device
from akt_spark.content.staged import ABOUT, CHECKPOINT, HEAD, ITEMS, PAIRS, TUNED
from akt_spark.stage import Context


@dataclass(frozen=True)
class CatalogueItems:
    """Texts and encoded images of N items, by position; images stay in Arrow until they are wanted."""

    texts: list[str]
    encoded: pa.ChunkedArray
    places: np.ndarray  # of the items in ``encoded``, which is not sorted: Arrow cannot move more than 2 GB at once

    @classmethod
    def read(cls, folder: Path) -> CatalogueItems:
        """Staged items, in the order of their ids."""
        table = pq.read_table(folder)
        places = np.argsort(table.column("item_id").to_numpy(), kind="stable")
        rows = table.drop(["image"]).take(places).to_pylist()
        return cls([row_prompt(row) for row in rows], table.column("image"), places)

    def images(self, rows: np.ndarray) -> list[bytes | None]:
        """Images of some items."""
        return [self.encoded[int(place)].as_py() for place in self.places[rows]]


def train_staged(ctx: Context, folder: Path, spec: EncoderSpec) -> dict[str, float]:
    """Trains where ``alignment.run_on`` says; the models then lie in the folder.

    They are the same wherever they were trained, up to the rounding of another device or number of threads.

    Returns:
        As `train_folder`.
    """
    if ctx.config.alignment.run_on == "driver":
        return train_folder(folder, spec, ctx.config)
    work = partial(_train_in_task, folder=folder, spec=spec, config=ctx.config)
    profile = embedding_profile(ctx.spark, ctx.config.encoder)
    one = ctx.spark.range(1, numPartitions=1)
    return json.loads(one.mapInArrow(work, "metrics STRING", profile=profile).collect()[0]["metrics"])


def train_folder(folder: Path, spec: EncoderSpec, config: Config) -> dict[str, float]:
    """Trains a staged alignment in this process, on the device of the encoder's configuration.

    A killed training goes on from its checkpoint, which stays with the folder.

    Returns:
        As `train_head`; with an encoder that is trained also ``recall_head``: with the head alone, same pairs.
    """
    started = time.monotonic()
    data = PairData(**load_file(folder / PAIRS))
    head, metrics = train_head(data, config.alignment)
    if config.alignment.method == "lora":
        lora, items = config.alignment.lora, CatalogueItems.read(folder / ITEMS)
        encoder = spec.load(task_device(config.encoder.device))
        torch.manual_seed(config.alignment.seed)  # initialisation of the adapters
        aligner = TunedAligner(encoder, spec.family, head, items, lora, config.encoder.batch_size)
        with_head = metrics["recall_aligned"]
        metrics = train_tuned(aligner, data, config.alignment, folder / CHECKPOINT) | {"recall_head": with_head}
        about = json.loads((folder / ABOUT).read_text())
        description = {"kind": "lora", "lora": {"rank": lora.rank, "alpha": lora.alpha}, **about}
        shutil.rmtree(folder / TUNED, ignore_errors=True)
        save_state(folder / TUNED, aligner.adapter_state(), description)
    shutil.rmtree(folder / HEAD, ignore_errors=True)
    head.save(folder / HEAD)
    print(f"alignment {config.alignment.method}: trained in {time.monotonic() - started:,.0f} s", flush=True)
    return metrics


def _train_in_task(
    batches: Iterator[pa.RecordBatch], folder: Path, spec: EncoderSpec, config: Config
) -> Iterator[pa.RecordBatch]:
    for _ in batches:  # nothing but the one row that makes a task
        yield pa.RecordBatch.from_pydict({"metrics": [json.dumps(train_folder(folder, spec, config))]})
