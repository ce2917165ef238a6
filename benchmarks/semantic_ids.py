"""Semantic IDs of one data set: what alignment, images and the kind of quantiser give, and what each step costs.

    python benchmarks/semantic_ids.py --conf-file conf/movielens_1m.yaml --ds 2003-02-28 \
        --out benchmarks/results/semantic_ids_movielens_1m.json

Runs the jobs themselves on a lake of its own: a whole night as a scheduler runs it; then `align_encoder` with and
without images, by a head and, with --lora, by LoRA as well; with --prompt, the user model that reads prompts; then
`embed`, and `build_semantic_ids` with every quantiser, fitted anew with another seed than the night's, its gate open.
What a gate refuses is a result too. The file is written after every part. With --lake it goes on with what a run that
was killed has done there; a step costs what it did when it was done.
The page is made from the results: python benchmarks/semantic_ids_page.py > docs/semantic_ids.md
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import measure
import pandas as pd
from deltalake import DeltaTable

OPEN_GATE = "{min_coverage: 0.0, min_head_coverage: 0.0, max_largest_bucket: 1.0, max_unexplained_variance: 100.0}"
QUANTIZERS = ("rqvae", "rqkmeans", "random", "category")  # the first follows the night's of its kind: a refresh
SEED = 2
VARIED = {  # sections that tell one run of a stage from another
    "align_encoder": ("encoder", "alignment", "interest", "segments"),
    "build_semantic_ids": ("semantic", "segments"),
}
HEAD = "alignment.method=head"
INPUTS = ("texts", "images")  # without and with images
PACKAGES = ("pyspark", "torch", "transformers", "faiss-cpu")


@dataclass(frozen=True)
class Study:
    """One data set and the lake that its jobs write."""

    conf_file: str
    ds: str
    lake: str
    settings: list[str]

    def submit(self, job: str, *settings: str) -> bool:
        """Runs a job to its end; returns whether it succeeded."""
        overrides = [word for one in (*self.settings, *settings) for word in ("--set", one)]
        command = ["spark-submit", f"jobs/{job}.py", "--conf-file", self.conf_file, "--ds", self.ds]
        print(job, *settings, flush=True)
        places = ("--set", f"lake.root={self.lake}", "--set", f"report.path={self.lake}/report")
        return not subprocess.run([*command, *places, *overrides]).returncode

    def run(self, stage: str, *settings: str) -> dict:
        """Runs the job of a stage.

        Returns:
            stage_seconds, the session's start apart, when it did the work; and ``refused``, what its gate said.
        """
        passed = self.submit(stage, *settings)
        runs = self.table("ops.runs").sort_values("started_at")
        runs = runs[runs["stage"] == stage]
        newest = runs.iloc[-1]
        if not passed:
            if newest["status"] != "failed" or "rejected" not in newest["error"]:
                raise SystemExit(f"{stage} failed: {newest['error']}")
            return {"stage_seconds": float(newest["seconds"]), "refused": newest["error"]}
        runs = runs[runs["status"] != "failed"]
        varied = VARIED.get(stage, ())
        asked = runs["config"].map(lambda config: json.dumps([json.loads(config)[section] for section in varied]))
        return {"stage_seconds": float(runs["seconds"][asked == asked.iloc[-1]].max())}

    def table(self, name: str) -> pd.DataFrame:
        """A table of the lake."""
        return DeltaTable(f"{self.lake}/{name.replace('.', '/')}").to_pandas()

    def night(self) -> dict:
        """A whole night; a second one only looks whether it is done, so that the first one's time stays."""
        started = time.monotonic()
        if not self.submit("nightly"):
            raise SystemExit("the night failed")
        minutes, runs = (time.monotonic() - started) / 60, self.table("ops.runs").sort_values("started_at")
        first = runs[runs["status"] == "done"].drop_duplicates("stage")
        stages = dict(zip(first["stage"], first["seconds"].astype(float), strict=True))
        return {"part": "night", "minutes": round(max(minutes, sum(stages.values()) / 60), 1), "stages": stages}

    def encoder(self, entity: str) -> dict[str, float]:
        """What was measured when the newest encoder was trained, whether it passed or not."""
        found = self.table("content.encoders")
        chosen = found[(found["entity"] == entity) & (found["stage"] == "aligned")].sort_values("chosen_at").iloc[-1]
        return {name: round(value, 4) for name, value in dict(chosen["metrics"]).items()}

    def align(self, images: bool, method: str, settings: list[str]) -> dict:
        """Trains an encoder of items, and the user model over it."""
        chosen = (f"encoder.use_images={str(images).lower()}", f"alignment.method={method}")
        done = self.run("align_encoder", *chosen, *settings)
        measured = {"item": self.encoder("item")}
        if not done.get("refused", "").startswith("item"):  # else no user model was trained
            measured["user"] = self.encoder("user")
        return {"part": "alignment", "images": images, "method": method, "settings": settings} | done | measured

    def prompt(self, settings: list[str]) -> dict:
        """Trains the user model that reads prompts, over the night's encoder of items."""
        done = self.run("align_encoder", HEAD, "interest.model=prompt", *settings)
        return {"part": "users", "model": "prompt", "settings": settings} | done | {"user": self.encoder("user")}

    def quantize(self, kind: str) -> dict:
        """Fits a quantiser on the vectors of the night's encoder; measures of items by level and control."""
        settings = [
            f"semantic.item.kind={kind}",
            f"semantic.item.seed={SEED}",
            *(f"semantic.{entity}_gate={OPEN_GATE}" for entity in ("item", "user")),
        ]
        done = self.run("build_semantic_ids", *settings)
        books = self.table("semantic.codebooks")
        (version,) = books[(books["entity"] == "item") & (books["status"] == "published")]["codebook_version"]
        return {"part": "quantizer", "kind": kind} | done | {"measures": self.measures(version)}

    def measures(self, version: str) -> list[dict]:
        """What was measured of a codebook of items."""
        health = self.table("semantic.health")
        of_items = health[(health["entity"] == "item") & (health["codebook_version"] == version)]
        return [
            {"metric": metric, "level": level, "control": control, "value": round(value, 4)}
            for metric, level, control, value in of_items[["metric", "level", "control", "value"]].itertuples(
                index=False
            )
            if value == value
        ]


def parts(study: Study, lora: list[str] | None, lora_inputs: list[str], prompt: list[str] | None) -> Iterator[dict]:
    """One after the other, as they are done."""
    yield study.night()
    items = study.table("bronze.items")
    yield {"part": "catalogue", "items": len(items), "with_image": int(items["image"].notna().sum())}
    for images in (True, False):
        yield study.align(images, "head", [])
        if lora is not None and INPUTS[images] in lora_inputs:
            yield study.align(images, "lora", lora)
    if prompt is not None:
        yield study.prompt(prompt)
    study.align(True, "head", [])  # chosen again
    yield {"part": "step", "stage": "embed"} | study.run("embed", HEAD)
    for kind in QUANTIZERS:
        yield study.quantize(kind)


def main() -> None:
    parser = measure.parser(__doc__)
    parser.add_argument("--conf-file", required=True)
    parser.add_argument("--ds", required=True)
    parser.add_argument("--set", action="append", default=[], help="an override of the configuration, for all jobs")
    parser.add_argument("--lora", nargs="*", help="also trains LoRA, with these overrides")
    parser.add_argument("--lora-inputs", nargs="*", choices=INPUTS, default=INPUTS, help="LoRA on which of them")
    parser.add_argument("--prompt", nargs="*", help="also trains the user model that reads prompts, with these")
    parser.add_argument("--remark", default="", help="what a reader has to know about this run")
    parser.add_argument("--lake", help="goes on with this lake; without it, a temporary one")
    options = parser.parse_args()
    rows: list[dict] = []
    note = f"{options.conf_file} for {options.ds}" + (f", --set {' '.join(options.set)}" if options.set else "")
    note += options.remark and f"; {options.remark}"
    with tempfile.TemporaryDirectory() if options.lake is None else nullcontext() as folder:
        study = Study(options.conf_file, options.ds, options.lake or str(Path(folder, "lake")), options.set)
        for row in parts(study, options.lora, options.lora_inputs, options.prompt):
            rows.append(row)
            measure.write(options.out, __doc__.splitlines()[0], PACKAGES, rows, [], note)


if __name__ == "__main__":
    main()
