"""Training: rates of our rankers and of FuxiCTR's DIN, of the reader and of raw pyarrow, of ranks; a rank's memory.

    python benchmarks/training.py --out benchmarks/results/training.json

Samples are made up and written as the job build_samples writes them (`made_up_samples.py`; --lake takes those of a
night instead). Every process is pinned to the cores that are said of it, and no start is counted:

- ranks: an epoch of each ranker by the ranks of a Horovod job on Spark, one a core, from Petastorm.
- fuxictr: an epoch of its DIN by its own loop, with a thread a core, on samples that it holds in memory; the same
  fields, widths and samples a step (`fuxictr_models.py`). Twice: batches made by the loop, and by a process beside it.
- one rank: an epoch of `din` on one core, from ready tensors in memory and from Petastorm.
- reader: the batches of an epoch, shuffled and checked, and nothing else; raw pyarrow reads the same columns of the
  same files in their order. Both end with the tensors that the ranker takes.
- memory: the largest resident set of a rank that trains `din` and validates, on a quarter of the rows and on all.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import measure

FUXICTR = "fuxictr==2.3.10"
CORES = 2
VARIANTS = ("din", "base", "recommended")
BATCH = 512
WARM_STEPS = 20
QUARTER = 0.25  # of the rows: what rates are measured on


def write(lake: str, rows: str) -> dict[str, object]:
    """A made-up lake."""
    import made_up_samples

    from akt_spark.lake import Lake

    spark = session(CORES)
    made_up_samples.write(Lake(spark, lake), int(rows))
    spark.stop()
    return {}


def by_ranks(lake: str, ranks: str, *names: str) -> dict[str, object]:
    """Samples/s of each ranker by the ranks of one Horovod job."""
    from akt_spark.training.launch import launch

    spark = session(int(ranks))
    with tempfile.TemporaryDirectory() as folder:
        found = launch(spark, rates, (open_plan(lake, QUARTER, names, folder, int(ranks)),), int(ranks))
    spark.stop()
    return found[0]


def rates(communicator, plan) -> dict[str, dict[str, float]]:
    """What a rank runs: an epoch of every ranker."""
    return {
        training.variant: rate(new_trainer(communicator, plan, training), plan, from_files(plan, communicator))
        for training in plan.trainings
    }


def one_rank(lake: str, rounds: str) -> dict[str, object]:
    """Samples/s of a rank alone, from memory and from Petastorm in turns."""
    from akt_spark.training.exchange import InlineCommunicator

    alone = InlineCommunicator()
    with tempfile.TemporaryDirectory() as folder:
        plan = open_plan(lake, QUARTER, ("din",), folder)
        trainer = new_trainer(alone, plan, plan.trainings[0])
        ready = list(from_files(plan, alone))
        found = {"memory": [], "petastorm": []}
        for _ in range(int(rounds)):
            found["memory"].append(rate(trainer, plan, ready))
            found["petastorm"].append(rate(trainer, plan, from_files(plan, alone)))
    return {source: median_run(runs) for source, runs in found.items()}


def reader(lake: str, rounds: str) -> dict[str, object]:
    """Rows/s of the reader and of raw pyarrow, in turns."""
    import pyarrow.parquet as pq

    from akt_spark.training.columns import to_arrays
    from akt_spark.training.exchange import InlineCommunicator
    from akt_spark.training.reader import COLUMNS, to_batch

    def raw(plan) -> Iterator[object]:
        for block in plan.train:
            for rows in pq.ParquetFile(block.url.removeprefix("file://")).iter_batches(BATCH, columns=list(COLUMNS)):
                yield to_batch(to_arrays(rows, COLUMNS))

    found = {"petastorm": [], "pyarrow": []}
    with tempfile.TemporaryDirectory() as folder:
        plan = open_plan(lake, 1.0, ("din",), folder)
    for _ in range(int(rounds) + 1):  # the first warms the disk's cache
        for side, batches in (("petastorm", from_files(plan, InlineCommunicator())), ("pyarrow", raw(plan))):
            started = time.monotonic()
            count = sum(1 for _ in batches)
            found[side].append({"rows_a_second": round(count * BATCH / (time.monotonic() - started))})
    return {side: median_run(runs[1:]) for side, runs in found.items()}


def memory(lake: str, part: str) -> dict[str, object]:
    """Largest resident set of a rank that trains and validates."""
    from akt_spark.training.exchange import InlineCommunicator
    from akt_spark.training.memory import peak_gib
    from akt_spark.training.ranks import train_all

    with tempfile.TemporaryDirectory() as folder:
        plan = open_plan(lake, float(part), ("din",), folder)
        Path(plan.log).touch()
        train_all(InlineCommunicator(), plan)
    return {"rows": sum(block.rows for block in plan.train), "rank_gib": round(peak_gib(), 3)}


def session(cores: int):
    """A Spark session of this benchmark."""
    from akt_spark.config import SparkConfig
    from akt_spark.session import spark_session

    settings = {"spark.ui.enabled": "false", "spark.driver.memory": "2g", "spark.driver.host": "127.0.0.1"}
    return spark_session(SparkConfig(master=f"local[{cores}]", settings=settings), "benchmark of training")


def open_plan(lake: str, part: float, names: Sequence[str], folder: str, ranks: int = 1):
    """An epoch of every ranker, on the first blocks that make up a part of all."""
    import lake_samples

    from akt_spark.config import TrainingConfig

    settings = TrainingConfig(ranks=ranks, batch_size=BATCH, epochs=1, device="cpu")
    plan = lake_samples.plan(lake, lake_samples.splits(lake), lake_samples.presets(*names), settings, folder)
    return replace(plan, train=plan.train[: max(1, round(part * len(plan.train)))])


def new_trainer(communicator, plan, training):
    """As in `ranks.py`."""
    import torch

    from akt_spark.ranker.akt_rec import Ranker
    from akt_spark.training.device import prepare
    from akt_spark.training.lookup import load_lookup
    from akt_spark.training.loop import Trainer

    prepare(torch.device("cpu"))
    items, users = load_lookup(plan.item_files, "item"), load_lookup(plan.user_files, "user")
    model = Ranker(training.model, items, users, training.seed)
    return Trainer(model, training.model, plan.settings, communicator, training.seed, plan.steps)


def from_files(plan, communicator) -> Iterator[Sequence[object]]:
    """The steps of an epoch, as `ranks.py` reads them."""
    from akt_spark.training.order import lanes_of
    from akt_spark.training.reader import batches

    settings = plan.settings
    lanes = lanes_of(communicator.rank, communicator.world, settings.shares)
    order = {"seed": 1, "epoch": 1, "shuffle_blocks": settings.shuffle_blocks}
    return zip(*(batches(plan.train, BATCH, lane, settings.shares, **order) for lane in lanes), strict=True)


def rate(trainer, plan, steps: Iterable[Sequence[object]]) -> dict[str, float]:
    """Samples/s of all ranks over an epoch, and the share of it that the loop waits for batches."""
    from akt_spark.training.pace import Pace

    if trainer.step == 0:
        trainer.train_epoch(islice(from_files(plan, trainer.communicator), WARM_STEPS))
    pace = Pace()
    trainer.train_epoch(pace.timed(steps))
    samples = pace.steps * BATCH * plan.settings.shares
    return {"samples_a_second": round(samples / pace.seconds), "reader_wait": round(pace.reader_wait, 4)}


def median_run(runs: Sequence[dict[str, float]]) -> dict[str, float]:
    """The run whose first value is the median; the lower of two."""
    name = next(iter(runs[0]))
    return next(run for run in runs if run[name] == statistics.median_low(run[name] for run in runs))


PARTS = {"write": write, "ranks": by_ranks, "one_rank": one_rank, "reader": reader, "memory": memory}


def part(name: str, *arguments: object, cores: int = CORES) -> dict:
    """A part of the benchmark in a process of its own."""
    row = measure.child([__file__, name, *map(str, arguments)], cores=cores)
    print(name, json.dumps(row), flush=True)
    return row


def fuxictr(lake: str, folder: Path):
    """What trains FuxiCTR's DIN, with so many processes that load."""
    import lake_samples

    model = lake_samples.presets("din")["din"]
    samples = folder / "samples"
    blocks = lake_samples.splits(lake)
    blocks["train"] = blocks["train"][: max(1, round(QUARTER * len(blocks["train"])))]
    lake_samples.export(lake, blocks, model.recent, samples)
    settings = lake_samples.sizes(model) | {"model": "din", "rate": 1e-3, "seed": 1, "epochs": 1, "batch_size": BATCH}
    python = measure.environment(folder, "fuxictr", FUXICTR)
    script = str(Path(__file__).with_name("fuxictr_models.py"))

    def train(workers: int) -> dict:
        full = settings | {"threads": CORES, "workers": workers}
        row = measure.child(["-P", script, str(samples), json.dumps(full)], python=python, cores=CORES)
        print("fuxictr", json.dumps(row), flush=True)
        return row

    return train


def main() -> None:
    if len(sys.argv) > 1 and sys.argv[1] in PARTS:
        print(json.dumps(PARTS[sys.argv[1]](*sys.argv[2:])), flush=True)
        return
    parser = measure.parser(__doc__)
    parser.add_argument("--lake", help="lake of a finished night; without it, samples are made up")
    parser.add_argument("--rows", type=int, default=640_000, help="training samples that are made up")
    parser.add_argument("--rounds", type=int, default=3, help="timed rounds, sides in turns")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        lake = options.lake or f"{temporary}/lake"
        if not options.lake:
            part("write", lake, options.rows)
        rows, bars = _measured(lake, Path(temporary), options.rounds)
    data = f"of {options.lake}" if options.lake else "made up"
    note = f"{FUXICTR}; {rows[-1]['rows']} training samples, {data}; medians of {options.rounds} rounds in turns"
    packages = ("torch", "horovod", "petastorm", "pyarrow", "pyspark")
    measure.write(options.out, __doc__.splitlines()[0], packages, rows, bars, note)


def _measured(lake: str, folder: Path, rounds: int) -> tuple[list[dict], list[dict]]:
    """A row for every side, and the bars."""
    train = fuxictr(lake, folder)
    sides = {
        "two ranks": lambda: part("ranks", lake, CORES, *VARIANTS),
        "one rank of Horovod": lambda: part("ranks", lake, 1, "din", cores=1),
        "FuxiCTR's DIN, loading itself": lambda: train(0),
        "FuxiCTR's DIN, a process loads": lambda: train(1),
    }
    found: dict[str, list[dict]] = {side: [] for side in sides}
    for _ in range(rounds):
        for side, run in sides.items():
            found[side].append(run())
    rows = []
    for side, runs in found.items():
        for name in VARIANTS if side == "two ranks" else ("din",):
            rates = [run[name] if name in run else run for run in runs]
            rows.append({"side": side, "ranker": name} | median_run(rates))
    alone = part("one_rank", lake, rounds, cores=1)
    rows += [{"side": f"one rank, {source}", "ranker": "din"} | alone[source] for source in ("memory", "petastorm")]
    read = part("reader", lake, rounds)
    rows += [{"side": f"reader, {source}"} | read[source] for source in ("petastorm", "pyarrow")]
    held = [part("memory", lake, share) for share in (QUARTER, 1.0)]
    rows += [{"side": "memory of a rank", "ranker": "din"} | row for row in held]
    by = {(row["side"], row.get("ranker")): row.get("samples_a_second") for row in rows}
    ours = by["two ranks", "din"]
    theirs = max(rate for (side, _), rate in by.items() if side.startswith("FuxiCTR"))
    bars = [
        measure.at_least("din, samples/s against FuxiCTR's DIN on the same cores", ours / theirs, 1.0),
        measure.at_least("recommended against base", by["two ranks", "recommended"] / by["two ranks", "base"], 0.5),
        measure.at_least(
            "Petastorm against tensors in memory, one rank",
            alone["petastorm"]["samples_a_second"] / alone["memory"]["samples_a_second"],
            0.9,
        ),
        measure.at_most("reader wait of step time, one rank", alone["petastorm"]["reader_wait"], 0.05),
        measure.at_least(
            "reader against raw pyarrow", read["petastorm"]["rows_a_second"] / read["pyarrow"]["rows_a_second"], 0.8
        ),
        measure.at_least("2 ranks on 2 cores against 1 on 1", ours / by["one rank of Horovod", "din"], 1.7),
        measure.at_most("memory of a rank, all rows against a quarter", held[1]["rank_gib"] / held[0]["rank_gib"], 1.1),
    ]
    return rows, bars


if __name__ == "__main__":
    main()
