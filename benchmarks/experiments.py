"""What the experiments of a lake found: metrics, paired differences, gates, and what each ranker costs.

    python benchmarks/experiments.py --lake .movielens_1m/lake --ds 2003-02-28 \
        --out benchmarks/results/experiments_movielens_1m.json

Reads what jobs/experiment.py has written for a day and trains nothing: run it on the machine that did, which the file
names. With --only it reads some of them, and leaves in the file what that holds of others, of earlier lakes too. Values
are means over seeds. Of slices that are steps of one quantity it keeps the variants that a report draws, of the planted
tail all. The page is made from the files: python benchmarks/experiments_page.py
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import measure
import pandas as pd
from deltalake import DeltaTable

from akt_spark.evaluation.plots import DRAWN
from akt_spark.evaluation.significance import COMPARED, Difference
from akt_spark.evaluation.slices import FAMILIES, FAMILY_OF

RANKING = ("auc", "gauc_impr")
PAPER = tuple(FAMILIES["paper"].slices)
PLANTED = "planted_"  # slices of ids whose training events were cut to so many
OF_EXPERIMENT = {"seeds", "resamples", "p"}  # of a difference: said once, or not needed beside p_holm
TRAINING = ("epochs", "batch_size", "ranks", "backend")
PACKAGES = ("pyspark", "torch", "petastorm", "horovod")
PAIRED = 12  # all pairs of so few variants are kept: what an ablation asks is not always about its reference
DIGITS = 6


@dataclass(frozen=True)
class Experiments:
    """The experiments of one day in one lake, and what a reader has to know about them."""

    lake: str
    ds: str
    remark: str = ""

    def names(self) -> list[str]:
        """Those that were evaluated.

        Raises:
            SystemExit: when there are none.
        """
        runs = set(self.table("evaluation.metrics", ["run_id"])["run_id"])
        names = sorted(run.removeprefix(f"{self.ds}-") for run in runs if run.startswith(f"{self.ds}-"))
        if not names:
            raise SystemExit(f"{self.lake} has no experiment of {self.ds}: run jobs/experiment.py")
        return names

    def table(self, name: str, columns: list[str] | None = None, version: int | None = None) -> pd.DataFrame:
        """Rows of a table."""
        return DeltaTable(f"{self.lake}/{name.replace('.', '/')}", version=version).to_pandas(columns=columns)

    def of_run(self, table: str, name: str) -> pd.DataFrame:
        """Rows of a table that an experiment has written."""
        rows = self.table(table)
        return rows[rows["run_id"] == f"{self.ds}-{name}"]

    def rows(self, name: str) -> Iterator[dict[str, Any]]:
        """What is kept of an experiment; the first row says what it is."""
        experiment = self.facts(name)
        yield experiment
        metrics = self.of_run("evaluation.metrics", name)
        of_experiment = {"experiment": name}
        for row in [*_values(metrics), *_slices(metrics, experiment["reference"])]:
            yield row | of_experiment
        for row in _differences(self.of_run("evaluation.differences", name), experiment):
            yield row | of_experiment
        for row in [*_gates(self.of_run("training.gates", name)), *_costs(self.of_run("training.checkpoints", name))]:
            yield row | of_experiment

    def facts(self, name: str) -> dict[str, Any]:
        """What was compared, on what, and by which code."""
        runs = self.of_run("ops.runs", name).sort_values("started_at")
        runs = runs[runs["status"] == "done"].drop_duplicates("stage", keep="last").set_index("stage")
        config = json.loads(runs.loc["evaluate", "config"])
        differences = self.of_run("evaluation.differences", name)
        (version,) = set(self.of_run("training.checkpoints", name)["samples_version"])
        samples = self.table("training.samples", ["split", "label"], int(version)).groupby("split")["label"]
        return {
            "part": "experiment",
            "experiment": name,
            "ds": self.ds,
            "code": measure.code(),
            "remark": self.remark,
            "reference": config["evaluation"]["reference"],
            "variants": list(config["ranker"]["variants"]),
            "seeds": config["training"]["seeds"],
            "resamples": int(differences["resamples"].max()) if len(differences) else 0,
            "training": {key: config["training"][key] for key in TRAINING},
            "negatives": config["samples"]["negatives"],
            "samples": {split: int(rows) for split, rows in samples.size().items()},
            "positives": {split: int(rows) for split, rows in samples.sum().items()},
            "source_revision": runs.loc["train_ranker", "code_revision"],
        }


def _values(metrics: pd.DataFrame) -> list[dict[str, Any]]:
    """Means over seeds, on the paper's slices."""
    kept = metrics[metrics["slice"].isin(PAPER) & metrics["metric"].isin(COMPARED)]
    means = kept.groupby(["variant", "slice", "metric"], sort=True)["value"].mean()
    return [
        {"part": "value", "variant": variant, "slice": name, "metric": metric, "value": _rounded(value)}
        for (variant, name, metric), value in means.items()
    ]


def _slices(metrics: pd.DataFrame, reference: str) -> list[dict[str, Any]]:
    """How many rows, positives and users a slice has: the same for every variant and seed."""
    counts = metrics[(metrics["variant"] == reference) & metrics["metric"].isin(["n", "positives", "users"])]
    table = counts.pivot_table(index="slice", columns="metric", values="value", aggfunc="first", sort=True)
    return [
        {"part": "slice", "slice": name} | {metric: int(value) for metric, value in row.items()}
        for name, row in table.iterrows()
    ]


def _differences(found: pd.DataFrame, experiment: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All variants against the reference; on the paper's slices also the first one against all others, or all pairs."""
    reference, (first, *others) = experiment["reference"], experiment["variants"]
    drawn = [name for name in experiment["variants"] if name != reference][:DRAWN]
    names = [field.name for field in fields(Difference) if field.name not in OF_EXPERIMENT]
    for row in found.sort_values(["variant", "reference", "slice", "metric"]).to_dict("records"):
        variant, place, against = row["variant"], row["slice"], row["reference"] == reference
        if place in PAPER:
            kept = against or (row["metric"] in RANKING and (variant == first or len(others) < PAIRED))
        elif place.startswith(PLANTED) or not FAMILIES[FAMILY_OF[place]].axis:
            kept = against and row["metric"] in RANKING
        else:
            kept = against and row["metric"] in RANKING and variant in drawn
        if kept:
            yield {"part": "difference"} | {name: _rounded(row[name]) for name in names}


def _gates(gates: pd.DataFrame) -> list[dict[str, Any]]:
    """Means over seeds."""
    bins = ["variant", "entity", "impressions_from", "impressions_to"]
    means = gates.groupby(bins, sort=True)[["ids", "mean", "p10", "p90"]].mean().reset_index()
    rows = [
        {"part": "gate"} | {name: _rounded(value) for name, value in row.items()} for row in means.to_dict("records")
    ]
    return [row | {"ids": round(row["ids"])} for row in rows]


def _costs(checkpoints: pd.DataFrame) -> list[dict[str, Any]]:
    """Means over seeds, and the most memory of any."""
    speed = checkpoints.assign(samples_per_second=checkpoints["samples"] / checkpoints["seconds"])
    means = speed.groupby("variant", sort=True).agg(
        parameters=("parameters", "max"),
        samples_per_second=("samples_per_second", "mean"),
        minutes=("seconds", lambda seconds: seconds.mean() / 60),
        peak_gib=("peak_gib", "max"),
        epoch=("epoch", "mean"),
    )
    return [{"part": "cost", "variant": name} | dict(map(_plain, row.items())) for name, row in means.iterrows()]


def _plain(entry: tuple[str, float]) -> tuple[str, float | int]:
    name, value = entry
    return name, int(value) if name == "parameters" else round(float(value), 4)


def _rounded(value: Any) -> Any:
    """Floats with so many digits as are printed and more, None for what is undefined."""
    if not isinstance(value, float):
        return value
    return round(value, DIGITS) if math.isfinite(value) else None


def text(result: dict[str, Any]) -> str:
    """JSON with one line a row, so that a change shows which figures changed."""
    rows = ",\n".join("  " + json.dumps(row, allow_nan=False) for row in result["rows"])
    shell = json.dumps(result | {"rows": []}, indent=1, allow_nan=False)
    return shell.replace('"rows": []', f'"rows": [\n{rows}\n ]') + "\n"


def main() -> None:
    parser = measure.parser(__doc__)
    parser.add_argument("--lake", required=True, help="root of the lake that holds the experiments")
    parser.add_argument("--ds", required=True, help="the day whose samples they were trained on")
    parser.add_argument("--only", nargs="+", default=[], help="experiments to read; the others in the file stay")
    parser.add_argument("--remark", default="", help="what a reader has to know about these runs")
    options = parser.parse_args()
    experiments, out = Experiments(options.lake, options.ds, options.remark), Path(options.out)
    there = experiments.names()
    if unknown := sorted(set(options.only) - set(there)):
        raise SystemExit(
            f"{options.lake} has no experiment {', '.join(unknown)} of {options.ds}: it has {', '.join(there)}"
        )
    names = options.only or there
    rows = [row for name in names for row in experiments.rows(name)]
    kept = json.loads(out.read_text())["rows"] if options.only and out.exists() else []
    rows = [row for row in kept if row["experiment"] not in names] + rows
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text(measure.result(__doc__.splitlines()[0], PACKAGES, rows, [])))
    for row in rows:
        if row["part"] == "experiment":
            print(f"{row['experiment']}: {len(row['variants'])} variants, seeds {row['seeds']}")


if __name__ == "__main__":
    main()
