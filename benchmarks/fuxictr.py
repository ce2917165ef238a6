"""Our `din` and `dnn` beside FuxiCTR's DIN and DNN: AUC on the same split, features, sizes and tuning budget.

    python benchmarks/fuxictr.py --lake LAKE --out benchmarks/results/fuxictr.json

LAKE is that of a finished night: `spark-submit jobs/nightly.py --conf-file conf/movielens_1m.yaml --ds 2003-02-28`.

Every model of either side reads the user, the item, their attributes, and the newest entries of the history with their
attributes; statistics, semantic IDs and content are read by none. Each trains by its own loop with its own reader, with
every learning rate of one grid and the first seed, for at most so many epochs, of which the best on validation is kept;
the rate that is best on validation is then trained with the other seeds. The test split is scored after that choice.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import measure

FUXICTR = "fuxictr==2.3.10"
CORES = 2  # trainings at a time, each on one thread
MODELS = ("din", "dnn")
SIDES = ("ours", "fuxictr")
BATCH = 512
BAR = 0.002


def train_ours(lake: str, settings: dict) -> dict[str, float]:
    """One training as a rank does it, alone and in this process."""
    import lake_samples
    import torch
    from sklearn.metrics import roc_auc_score

    from akt_spark.config import TrainingConfig
    from akt_spark.training.checkpoint import load_ranker, read_checkpoint
    from akt_spark.training.exchange import InlineCommunicator
    from akt_spark.training.lookup import load_lookup
    from akt_spark.training.ranks import train_all
    from akt_spark.training.reader import ordered_batches

    training = TrainingConfig(
        ranks=1,
        batch_size=BATCH,
        epochs=settings["epochs"],
        learning_rate=settings["rate"],
        id_learning_rate=settings["rate"],
        seeds=[settings["seed"]],
        device="cpu",
    )
    blocks = lake_samples.splits(lake)
    with tempfile.TemporaryDirectory() as folder:
        plan = lake_samples.plan(lake, blocks, lake_samples.presets(settings["model"]), training, folder)
        Path(plan.log).touch()
        train_all(InlineCommunicator(), plan)
        kept = Path(plan.trainings[0].folder, "model")
        checkpoint = read_checkpoint(kept)
        ranker = load_ranker(kept, load_lookup(plan.item_files, "item"), load_lookup(plan.user_files, "user"))
    labels, scores = [], []
    with torch.no_grad():
        for batch in ordered_batches(blocks["test"], BATCH):
            labels.append(batch["label"])
            scores.append(ranker(batch))
    return {
        "validation_auc": checkpoint.metrics["validation_auc"],
        "test_auc": float(roc_auc_score(torch.cat(labels), torch.cat(scores))),
        "parameters": checkpoint.parameters,
        "epoch": checkpoint.epoch,
    }


def commands(lake: str, folder: Path, python: str) -> dict[str, Callable[[dict], dict]]:
    """How a side runs one training with its settings, in a process of its own."""
    import lake_samples

    model = lake_samples.presets("din")["din"]
    fixed = lake_samples.sizes(model) | {"batch_size": BATCH, "threads": 1, "workers": 0}
    samples = folder / "samples"
    lake_samples.export(lake, lake_samples.splits(lake), model.recent, samples)
    peer = str(Path(__file__).with_name("fuxictr_models.py"))

    def ours(settings: dict) -> dict:
        return measure.child([__file__, lake, json.dumps(settings)])

    def theirs(settings: dict) -> dict:
        return measure.child(["-P", peer, str(samples), json.dumps(settings | fixed)], python=python)

    return {"ours": ours, "fuxictr": theirs}


def compare(run: dict[str, Callable[[dict], dict]], rates: list[float], epochs: int, seeds: list[int]) -> list[dict]:
    """A row for every side and model: the chosen rate, and AUCs of every seed."""
    cases = [(side, model) for model in MODELS for side in SIDES]

    def trained(case: tuple[str, str], rate: float, seed: int) -> dict:
        side, model = case
        row = run[side]({"model": model, "rate": rate, "epochs": epochs, "seed": seed})
        print(side, model, rate, seed, json.dumps(row), flush=True)
        return row

    with ThreadPoolExecutor(CORES) as pool:
        grid = [(case, rate, pool.submit(trained, case, rate, seeds[0])) for case in cases for rate in rates]
        found = {case: {rate: future.result() for of, rate, future in grid if of == case} for case in cases}
        best = {case: max(rates, key=lambda rate: found[case][rate]["validation_auc"]) for case in cases}
        rest = [(case, pool.submit(trained, case, best[case], seed)) for case in cases for seed in seeds[1:]]
        runs = {
            case: [found[case][best[case]], *(future.result() for of, future in rest if of == case)] for case in cases
        }
    return [_row(case, best[case], found[case], runs[case]) for case in cases]


def _row(case: tuple[str, str], rate: float, grid: dict[float, dict], runs: list[dict]) -> dict:
    side, model = case
    aucs = [run["test_auc"] for run in runs]
    return {
        "side": side,
        "model": model,
        "learning_rate": rate,
        "validation_auc_by_rate": {tried: round(found["validation_auc"], 5) for tried, found in grid.items()},
        "test_auc": round(statistics.mean(aucs), 5),
        "test_auc_sd": round(statistics.stdev(aucs), 5) if len(aucs) > 1 else None,
        "test_auc_by_seed": [round(auc, 5) for auc in aucs],
        "parameters": runs[0]["parameters"],
    }


def main() -> None:
    if len(sys.argv) == 3:
        print(json.dumps(train_ours(sys.argv[1], json.loads(sys.argv[2]))), flush=True)
        return
    parser = measure.parser(__doc__)
    parser.add_argument("--lake", required=True, help="lake of a finished night")
    parser.add_argument("--rates", type=float, nargs="+", default=[5e-4, 1e-3, 2e-3], help="the grid of both sides")
    parser.add_argument("--epochs", type=int, default=2, help="at most; the best on validation is kept")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="the first also chooses the rate")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        python = measure.environment(Path(temporary), "fuxictr", FUXICTR)
        run = commands(options.lake, Path(temporary), python)
        rows = compare(run, options.rates, options.epochs, options.seeds)
    aucs = {(row["side"], row["model"]): row["test_auc"] for row in rows}
    bars = [
        measure.at_least(f"{model}: test AUC, ours less FuxiCTR's", aucs["ours", model] - aucs["fuxictr", model], -BAR)
        for model in MODELS
    ]
    note = (
        f"{FUXICTR}; samples of {options.lake}; batches of {BATCH}, learning rates {options.rates}, at most "
        f"{options.epochs} epochs, seeds {options.seeds}"
    )
    measure.write(options.out, __doc__.splitlines()[0], ("torch", "scikit-learn"), rows, bars, note)


if __name__ == "__main__":
    main()
