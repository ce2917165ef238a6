"""A hand-made run: a good variant and a control, scored on a planted test period, evaluated and reported once."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pyspark.sql import SparkSession

from akt_spark.conf_file import load
from akt_spark.evaluation import evaluate, report
from akt_spark.evaluation.slices import FAMILIES
from akt_spark.lake import Lake
from akt_spark.stage import Context, Outcome

from .lakes import write

RUN = "2024-01-31"
DAY = date(2024, 1, 31)
EVIL = "<script>alert('x')</script> & Sons"
VARIANTS = {"akt_rec": 0.2, "prefix_residual": 0.7, "base": 0.7}  # noise of the scores
USERS, ITEMS, IMPRESSIONS = 40, 30, 800
FILLED: dict[str, set[str]] = {
    "item_decile": {"04", "09"},
    "user_decile": {"02", "06", "09"},
    "cluster_teachers": {"1_3"},
}
EMPTY = {
    name for family, steps in FILLED.items() for name in FAMILIES[family].slices if name[len(family) + 1 :] not in steps
}


@dataclass
class Night:
    """The run, what it printed and what it wrote."""

    ctx: Context
    outcome: Outcome
    page: str = ""
    summary: dict[str, Any] = field(default_factory=dict)


@pytest.fixture(scope="session")
def night(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Night:
    """One run with two seeds. Tests must not write to its lake."""
    root = tmp_path_factory.mktemp("night")
    ctx = context(spark, root)
    samples = plant(ctx.lake)
    predict(ctx.lake, samples, VARIANTS, seeds=[1, 2])
    optional_tables(ctx.lake)
    outcome = evaluate.run(ctx)
    report.run(ctx)
    folder = Path(ctx.config.report.path)
    return Night(ctx, outcome, (folder / "index.html").read_text(), json.loads((folder / "summary.json").read_text()))


def context(spark: SparkSession, root: Path) -> Context:
    config = load(
        None,
        [
            f"lake.root={root / 'lake'}",
            f"report.path={root / 'report'}",
            "report.clusters=2",
            "evaluation.bootstrap=300",
            "planted.share=0.2",
        ],
    )
    return Context(spark, Lake(spark, config.lake.root), config, DAY, RUN)


def plant(lake: Lake) -> list[dict[str, Any]]:
    """Items, users and samples.

    Items 1 to 10 are head, 11 to 29 tail, 30 cold; codes are 0-0 and 1-1. User 40 is cold and never clicks. Counts of
    impressions are few: two of items, three of users; the other deciles, and `EMPTY` in all, have no samples.
    """
    items = [
        {
            "idx": idx,
            "item_id": f"i{idx}",
            "impressions": 0 if idx == 30 else 200 if idx <= 10 else 3,
            "segment": "cold" if idx == 30 else "head" if idx <= 10 else "tail",
            "role": "teacher" if idx in (2, 4) else "none",
            "codes": None if idx == 29 else [idx % 2, idx % 2],
        }
        for idx in range(1, ITEMS + 1)
    ]
    users = [
        {
            "idx": idx,
            "user_id": f"u{idx}",
            "impressions": 0 if idx == USERS else 10 + idx % 3,
            "segment": "cold" if idx == USERS else "head",
            "role": "none",
        }
        for idx in range(1, USERS + 1)
    ]
    rng = np.random.default_rng(0)
    samples = [
        {
            "sample_id": f"s{n}",
            "split": "test",
            "label": float(rng.random() < 0.4 and n % USERS != USERS - 1),
            "user_idx": 1 + n % USERS,
            "item_idx": 1 + int(rng.integers(ITEMS)),
            "history_length": n % 2,
        }
        for n in range(IMPRESSIONS)
    ]
    train = [{"sample_id": f"t{n}", "split": "train", "label": float(n < 3), "history_length": 0} for n in range(10)]
    write(lake, "training.items", items)
    write(lake, "training.users", users)
    write(lake, "training.samples", samples + train)
    write(lake, "bronze.items", [_catalogue(row["item_id"], row["idx"]) for row in items])
    kept = {f"{entity[0]}{n}": (entity, n) for entity in ("item", "user") for n in range(1, 11)}
    counts = [0, 3, 9, 30, None]
    write(
        lake,
        "bronze.planted",
        [{"entity": entity, "id": key, "kept": counts[n % 5]} for key, (entity, n) in kept.items()],
    )
    return samples


def predict(lake: Lake, samples: list[dict[str, Any]], variants: dict[str, float], seeds: list[int]) -> None:
    """serving.predictions and training.checkpoints: label plus noise, the same part of it for every variant."""
    rng = np.random.default_rng(1)
    labels = np.array([sample["label"] for sample in samples])
    shared = rng.normal(size=len(labels))
    rows, checkpoints = [], []
    trained = {"parameters": 1234, "samples": 9000}
    for variant, noise in variants.items():
        for seed in seeds:
            scores = 1 / (1 + np.exp(-(labels - 0.5 + noise * (shared + 0.5 * rng.normal(size=len(labels))))))
            model = {"run_id": RUN, "variant": variant, "seed": seed}
            rows += [
                {**model, "score": float(score)}
                | {name: sample[name] for name in ("sample_id", "user_idx", "item_idx", "label")}
                for sample, score in zip(samples, scores, strict=True)
            ]
            names = ("samples", "items", "users")
            versions = {f"{name}_version": lake.version(f"training.{name}") for name in names}
            cost = {"seconds": 30.0 + 60 * (seed - 1), "peak_gib": 1 / 2 + seed / 8, "epoch": 1 + seed}
            checkpoints.append(model | versions | trained | cost)
    write(lake, "serving.predictions", rows)
    write(lake, "training.checkpoints", checkpoints)


def optional_tables(lake: Lake) -> None:
    """What the report can do without."""
    model = {"run_id": RUN, "variant": "akt_rec", "seed": 1}
    write(
        lake, "training.curves", [{**model, "step": n, "metric": "loss", "value": 0.7 - n / 100} for n in range(1, 9)]
    )
    gate = {**model, "entity": "item", "ids": 3, "mean": 0.5, "p10": 0.4, "p90": 0.6}
    bins = [(0, 1), (1, 10), (10, 300)]
    write(lake, "training.gates", [{**gate, "impressions_from": low, "impressions_to": high} for low, high in bins])
    measure = {"run_id": RUN, "ds": DAY, "entity": "item", "codebook_version": "v1", "control": "none"}
    measures = [
        ("coverage", 1, 0.875),
        ("perplexity", 1, 32.0),
        ("unexplained_variance", 0, 0.25),
        ("churn", 0, float("nan")),
    ]
    health = [{**measure, "metric": m, "level": level, "value": v} for m, level, v in measures]
    purity = {**measure, "metric": "purity", "level": 1, "value": 0.5}
    health += [purity, purity | {"control": "random", "value": 0.125}, purity | {"control": "category", "value": 0.75}]
    earlier = {"run_id": "earlier", "ds": DAY - timedelta(days=1), "codebook_version": "v0"}
    refused = {"run_id": "refused", "ds": DAY - timedelta(days=2), "codebook_version": "v2", "value": 0.125}
    write(lake, "semantic.health", [*health, health[0] | earlier | {"value": 0.75}, health[0] | refused])
    vectors = [
        {"item_id": f"i{n}", "revision": "e", "vector": [float(n % 2), n / 30], "content_hash": "h"}
        for n in range(1, 31)
    ]
    write(lake, "content.item_embeddings", vectors)
    book = {"entity": "item", "codebook_version": "v1", "quantizer": "rqvae", "sizes": [64, 64, 32], "path": "p"}
    book |= {"encoder_revision": "e", "config_hash": "h", "status": "published", "fitted_ds": DAY}
    retired = book | {"codebook_version": "v0", "status": "retired"}
    write(lake, "semantic.codebooks", [book, retired, book | {"codebook_version": "v2", "status": "candidate"}])
    ids = [{"item_id": f"i{n}", "codebook_version": "v1", "codes": [4 + n % 2, n % 2]} for n in range(1, 29)]
    write(lake, "semantic.item_ids", [*ids, ids[0] | {"codebook_version": "v0", "codes": [7, 7]}])
    stage = {"run_id": RUN, "ds": DAY, "status": "done", "rows_in": 100, "rows_out": 97}
    runs = [
        {**stage, "stage": "ingest", "quarantined": 3, "seconds": 2.0, "started_at": datetime(2024, 1, 31, 1)},
        {**stage, "stage": "ingest", "quarantined": 4, "seconds": 3.0, "started_at": datetime(2024, 1, 31, 2)},
        {**stage, "stage": "ingest", "status": "failed", "started_at": datetime(2024, 1, 31, 3)},
        {**stage, "stage": "embed", "seconds": 1.5, "started_at": datetime(2024, 1, 31, 4)},
        {**stage, "stage": "embed", "run_id": "another", "seconds": 9.0, "started_at": datetime(2024, 1, 31, 5)},
    ]
    write(lake, "ops.runs", runs)


def _catalogue(item_id: str, idx: int) -> dict[str, Any]:
    picture = io.BytesIO()
    Image.new("RGB", (40, 60), (200, 30, 30)).save(picture, "PNG")
    images = {2: bytearray(picture.getvalue()), 4: bytearray(b"not a picture")}
    title = EVIL if idx == 2 else f"Film {idx}"
    return {"item_id": item_id, "title": title, "category": ["Comedy"], "image": images.get(idx)}
