"""Semantic IDs of one data set: what alignment, images and the kind of quantiser give, and what each step costs.

    python benchmarks/semantic_ids.py --conf-file conf/movielens_1m.yaml --ds 2003-02-28 \
        --out benchmarks/results/semantic_ids_movielens_1m.json

Runs the jobs themselves on a lake of its own: ingestion once; `align_encoder` with and without images, by a head and,
with --lora, by LoRA as well; then `embed`, and `build_semantic_ids` with every quantiser, its gate open. With --lake it
goes on with what a night, or a run of this that was killed, has done there; a step costs what it did when it was done.
The page is made from the results: python benchmarks/semantic_ids_page.py > docs/semantic_ids.md
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import measure
import pandas as pd
from deltalake import DeltaTable

OPEN_GATE = "{min_coverage: 0.0, min_head_coverage: 0.0, max_largest_bucket: 1.0, max_unexplained_variance: 100.0}"
QUANTIZERS = ("rqvae", "rqkmeans", "random", "category")
VARIED = {  # sections that tell one run of a stage from another
    "align_encoder": ("encoder", "alignment", "interest", "segments"),
    "build_semantic_ids": ("semantic", "segments"),
}
BEFORE = ("ingest", "build_activity", "build_sequences")


@dataclass(frozen=True)
class Study:
    """One data set and the lake that its jobs write."""

    conf_file: str
    ds: str
    lake: str
    settings: list[str]

    def run(self, stage: str, *settings: str) -> float:
        """Runs a job; returns the seconds of its stage, the session's start apart, when it did the work."""
        overrides = [word for one in (*self.settings, *settings) for word in ("--set", one)]
        command = ["spark-submit", f"jobs/{stage}.py", "--conf-file", self.conf_file, "--ds", self.ds]
        print(stage, *settings, flush=True)
        subprocess.run([*command, "--set", f"lake.root={self.lake}", *overrides], check=True)
        runs = self.table("ops.runs").sort_values("started_at")
        runs = runs[(runs["stage"] == stage) & (runs["status"] != "failed")]
        varied = VARIED.get(stage, ())
        asked = runs["config"].map(lambda config: json.dumps([json.loads(config)[section] for section in varied]))
        return float(runs["seconds"][asked == asked.iloc[-1]].max())

    def table(self, name: str) -> pd.DataFrame:
        """A table of the lake."""
        return DeltaTable(f"{self.lake}/{name.replace('.', '/')}").to_pandas()

    def encoder(self, entity: str) -> dict[str, float]:
        """What was measured when the newest encoder was trained."""
        found = self.table("content.encoders")
        chosen = found[(found["entity"] == entity) & (found["stage"] == "aligned")].sort_values("chosen_at").iloc[-1]
        return {name: round(value, 4) for name, value in dict(chosen["metrics"]).items()}

    def align(self, images: bool, method: str, settings: list[str]) -> dict:
        """Trains an encoder of items, and the user model over it."""
        chosen = (f"encoder.use_images={str(images).lower()}", f"alignment.method={method}")
        seconds = self.run("align_encoder", *chosen, *settings)
        measured = {"item": self.encoder("item"), "user": self.encoder("user")}
        return {"part": "alignment", "images": images, "method": method, "stage_seconds": seconds, **measured}

    def quantize(self, kind: str) -> dict:
        """Fits a quantiser on the vectors of the newest encoder; measures of items by level and control."""
        settings = [
            f"semantic.item.kind={kind}",
            *(f"semantic.{entity}_gate={OPEN_GATE}" for entity in ("item", "user")),
        ]
        seconds = self.run("build_semantic_ids", *settings)
        health = self.table("semantic.health")
        of_items = health[health["entity"] == "item"]
        measures = [
            {"metric": metric, "level": level, "control": control, "value": round(value, 4)}
            for metric, level, control, value in of_items[["metric", "level", "control", "value"]].itertuples(
                index=False
            )
            if value == value
        ]
        return {"part": "quantizer", "kind": kind, "stage_seconds": seconds, "measures": measures}


def main() -> None:
    parser = measure.parser(__doc__)
    parser.add_argument("--conf-file", required=True)
    parser.add_argument("--ds", required=True)
    parser.add_argument("--set", action="append", default=[], help="an override of the configuration, for all jobs")
    parser.add_argument("--lora", nargs="*", help="also trains LoRA, with these overrides")
    parser.add_argument("--lake", help="goes on with this lake; without it, a temporary one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() if options.lake is None else nullcontext() as folder:
        study = Study(options.conf_file, options.ds, options.lake or str(Path(folder, "lake")), options.set)
        rows = [{"part": "step", "stage": stage, "stage_seconds": study.run(stage)} for stage in BEFORE]
        rows.append({"part": "catalogue"} | _catalogue(study))
        for images in (False, True):
            if options.lora is not None:
                rows.append(study.align(images, "lora", options.lora) | {"settings": options.lora})
            rows.append(study.align(images, "head", []))
        newest = ("encoder.use_images=true", "alignment.method=head")
        rows.append({"part": "step", "stage": "embed", "stage_seconds": study.run("embed", *newest)})
        rows += [study.quantize(kind) for kind in QUANTIZERS]
    packages = ("pyspark", "torch", "transformers", "faiss-cpu")
    note = f"{options.conf_file} for {options.ds}, --set {options.set}"
    note += "; --lake: one that was there before" if options.lake else ""
    measure.write(options.out, __doc__.splitlines()[0], packages, rows, [], note)


def _catalogue(study: Study) -> dict[str, int]:
    items = study.table("bronze.items")
    return {"items": len(items), "with_image": int(items["image"].notna().sum())}


if __name__ == "__main__":
    main()
