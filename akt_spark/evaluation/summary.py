"""summary.json: what a run did and found, for scripts."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from akt_spark.evaluation.inputs import Health, StageRun, finite, versions
from akt_spark.evaluation.metrics import METRICS
from akt_spark.evaluation.results import Results
from akt_spark.semantic.measures import OWN


def summary(run_id: str, ds: str, results: Results, stages: list[StageRun], health: list[Health]) -> dict[str, Any]:
    """The content of summary.json; undefined values are null."""
    return {
        "run_id": run_id,
        "ds": ds,
        "seconds": {
            "total": round(sum(stage.seconds for stage in stages), 2),
            "stages": {stage.stage: stage.seconds for stage in stages},
        },
        "rows": {
            stage.stage: {"in": stage.rows_in, "out": stage.rows_out, "quarantined": stage.quarantined}
            for stage in stages
        },
        "semantic_ids": _health(health),
        "reference": results.reference,
        "metrics": _metrics(results),
        "metrics_by_seed": _metrics_by_seed(results),
        "differences": _differences(results),
        "versions": versions(),
    }


def _health(health: list[Health]) -> dict[str, dict[str, dict[str, float | None]]]:
    """entity -> metric -> level -> value; a control's metric ends in its name."""
    nested: dict[str, dict[str, dict[str, float | None]]] = {"item": {}, "user": {}}
    for measure in health:
        name = measure.metric if measure.control == OWN else f"{measure.metric}_{measure.control}"
        nested[measure.entity].setdefault(name, {})[str(measure.level)] = measure.value
    return nested


def _metrics(results: Results) -> dict[str, dict[str, dict[str, float | None]]]:
    """variant -> slice -> metric -> mean over seeds; slices without test impressions are absent."""
    return {
        variant: {
            slice_name: {metric: finite(results.mean(variant, slice_name, metric)) for metric in METRICS}
            for slice_name in results.slices
        }
        for variant in results.variants
    }


def _metrics_by_seed(results: Results) -> dict[str, dict[str, dict[str, dict[str, float | None]]]]:
    """variant -> seed -> slice -> metric -> value."""
    return {
        variant: {
            str(seed): {
                slice_name: {metric: finite(results.value(variant, seed, slice_name, metric)) for metric in METRICS}
                for slice_name in results.slices
            }
            for seed in results.seeds
        }
        for variant in results.variants
    }


def _differences(results: Results) -> dict[str, Any]:
    """variant -> the variant it is compared with -> slice -> metric -> the difference."""
    nested: dict[str, Any] = {}
    for (variant, reference, slice_name, metric), difference in results.differences.items():
        found = {name: value for name, value in asdict(difference).items() if not isinstance(value, str)}
        place = nested.setdefault(variant, {}).setdefault(reference, {}).setdefault(slice_name, {})
        place[metric] = found | {"clear_of_zero": difference.clear}
    return nested


def write_atomically(path: Path, text: str) -> None:
    """Writes beside the file and renames, so that a reader sees the old text or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def to_json(values: dict[str, Any]) -> str:
    """Strict JSON: a NaN that slipped through is an error here, not in the reader's parser."""
    return json.dumps(values, indent=1, allow_nan=False) + "\n"
