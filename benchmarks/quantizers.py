"""Quantisers of semantic IDs: ours beside faiss's residual quantiser and residual k-means, and 1M vectors in Spark.

    python benchmarks/quantizers.py --lake .demo/lake --out benchmarks/results/quantizers.json

Vectors are the aligned ones of real items (of a lake that `make demo` wrote) and 100,000 x 128 synthetic ones around
2,048 centres. All quantisers get the same normalised vectors and sizes and one thread, each in a process of its own,
in turns; the median CPU time of the rounds counts. Of the synthetic ones it also says how well IDs agree with the true
clusters: a quantiser that finds them has few distinct IDs, and `max_per_sid` (12 here) gives it more. Then a fitted
model assigns 1M vectors from Parquet in
Spark, and faiss finds as many codes in flat indices from memory, on the same cores. On a machine with other work, rows
a CPU second say more than rows a second: two threads that wait for each other lose the most.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import measure
import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

CORES = 2
SIZES = [64, 64, 32]
FIT_ROWS, DIM, GROUPS, ASSIGN_ROWS = 100_000, 128, 2048, 1_000_000
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
NO_SPINNING = {"OMP_WAIT_POLICY": "PASSIVE"}  # a thread that waits takes no CPU time, and none from its neighbour
MOST = 12  # ids that may share an ID
LIMITED = f"rqkmeans, at most {MOST} an ID"
OURS = ("rqkmeans", "rqvae", LIMITED)
PEERS = ("faiss ResidualQuantizer", "residual k-means")


def synthetic(rows: int, seed: int, noise: float = 0.5, world: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Vectors (rows, 128) at normal noise around 2,048 normal centres of a world, and the centre of each (rows,)."""
    centres = np.random.default_rng(world).normal(size=(GROUPS, DIM)).astype(np.float32)
    random = np.random.default_rng(seed)
    x = np.float32(noise) * random.standard_normal(size=(rows, DIM), dtype=np.float32)
    groups = random.integers(0, GROUPS, rows)
    return x + centres[groups], groups


def aligned(lake: str) -> np.ndarray:
    """The aligned vectors of all items (N, D), in the order of their ids."""
    from deltalake import DeltaTable

    encoders = DeltaTable(f"{lake}/content/encoders").to_pandas()
    chosen = encoders[(encoders["entity"] == "item") & (encoders["stage"] == "aligned")]
    revision = chosen.sort_values("chosen_at")["revision"].iloc[-1]
    rows = DeltaTable(f"{lake}/content/item_embeddings").to_pandas(columns=["item_id", "revision", "vector"])
    rows = rows[(rows["revision"] == revision) & rows["vector"].notna()].sort_values("item_id")
    return np.stack(rows["vector"].to_numpy()).astype(np.float32)


def fit(side: str, file: str) -> dict[str, object]:
    """Fits one side on the vectors of a file and measures its codes of the same vectors.

    Where the file says which cluster a vector was drawn from, also how well IDs, and IDs without their last code, agree
    with it: adjusted mutual information, 1 for the same clusters and 0 for chance.
    """
    import faiss
    import torch

    from akt_spark.semantic.arithmetic import layer_norm

    faiss.omp_set_num_threads(1)
    torch.set_num_threads(1)
    with np.load(file) as stored:
        x, groups = stored["x"], stored["groups"]
    started = time.process_time()  # one thread: other work on the cores does not count
    encode = SIDES[side](x)
    fitted = time.process_time()
    codes, rebuilt = encode()
    encoded = time.process_time()
    x = layer_norm(x)
    buckets = np.unique(codes, axis=0, return_counts=True)[1]
    error = np.square(x - rebuilt, dtype=np.float64).sum()
    return {
        "fit_cpu_seconds": round(fitted - started, 2),
        "encode_cpu_seconds": round(encoded - fitted, 2),
        "unexplained_variance": round(float(error / np.square(x - x.mean(axis=0), dtype=np.float64).sum()), 4),
        "coverage": [len(np.unique(codes[:, level])) / size for level, size in enumerate(SIZES)],
        "distinct_ids": len(buckets),
        "largest_bucket": int(buckets.max()),
    } | (_agreement(codes, groups) if len(groups) else {})


def _agreement(codes: np.ndarray, groups: np.ndarray) -> dict[str, float]:
    from sklearn.metrics import adjusted_mutual_info_score

    def ami(codes: np.ndarray) -> float:
        return round(float(adjusted_mutual_info_score(groups, np.unique(codes, axis=0, return_inverse=True)[1])), 4)

    return {"true_clusters_ami_of_ids": ami(codes), "true_clusters_ami_of_prefixes": ami(codes[:, :-1])}


def _ours(x: np.ndarray, kind: str, most: int | None = None) -> Encode:
    from akt_spark.config import QuantizerConfig
    from akt_spark.semantic.collisions import resolved
    from akt_spark.semantic.kinds import new_quantizer

    quantizer = new_quantizer(QuantizerConfig(kind=kind, sizes=SIZES))
    quantizer.fit(x)

    def encode() -> tuple[np.ndarray, np.ndarray]:
        codes = quantizer.encode(x).codes
        if most is not None:
            nothing = np.empty((0, len(SIZES)), np.int32), np.empty(0, np.int64)
            codes = resolved(codes, quantizer.last_distances(x), *nothing, most)
        return codes, quantizer.decode(codes)

    return encode


def _residual_quantizer(x: np.ndarray) -> Encode:
    """With its defaults: progressive dimensions, beam of 5."""
    import faiss

    from akt_spark.semantic.arithmetic import layer_norm

    bits = faiss.UInt64Vector()
    for size in SIZES:
        bits.push_back(size.bit_length() - 1)
    quantizer, x = faiss.ResidualQuantizer(x.shape[1], bits), layer_norm(x)
    quantizer.train(x)

    def encode() -> tuple[np.ndarray, np.ndarray]:
        packed = quantizer.compute_codes(x)
        whole = sum(packed[:, byte].astype(np.int64) << 8 * byte for byte in range(packed.shape[1]))
        offsets = np.cumsum([0, *(size.bit_length() - 1 for size in SIZES)])
        codes = np.stack([(whole >> offsets[level]) % size for level, size in enumerate(SIZES)], axis=1)
        return codes, quantizer.decode(packed)

    return encode


def _residual_kmeans(x: np.ndarray) -> Encode:
    """faiss.Kmeans with its defaults, level by level: random seeding, at most 256 vectors a centre."""
    import faiss

    from akt_spark.semantic.arithmetic import layer_norm

    x = residual = layer_norm(x)
    codes = []
    for size in SIZES:
        clusters = faiss.Kmeans(x.shape[1], size)
        clusters.train(residual)
        codes.append(clusters.assign(residual)[1])
        residual = residual - clusters.centroids[codes[-1]]
    return lambda: (np.stack(codes, axis=1), x - residual)


Encode = Callable[[], tuple[np.ndarray, np.ndarray]]  # to codes and reconstructions of what a side was fitted on
SIDES: dict[str, Callable[[np.ndarray], Encode]] = {
    "rqkmeans": partial(_ours, kind="rqkmeans"),
    "rqvae": partial(_ours, kind="rqvae"),
    LIMITED: partial(_ours, kind="rqkmeans", most=MOST),
    "faiss ResidualQuantizer": _residual_quantizer,
    "residual k-means": _residual_kmeans,
}


def assign_in_spark(model: str, file: str) -> dict[str, float]:
    """Rows a second of the product's assignment, from Parquet to a count over all codes.

    The start is apart: workers run, and the JVM has compiled what it runs, once the rows have gone through.
    """
    from pyspark.sql import functions as F

    from akt_spark.config import SparkConfig
    from akt_spark.semantic.assign import assign
    from akt_spark.semantic.vector_files import located
    from akt_spark.session import spark_session

    settings = {"spark.ui.enabled": "false", "spark.driver.memory": "3g"}
    spark = spark_session(SparkConfig(master=f"local[{CORES}]", settings=settings), "benchmark of quantisers")
    rows = located(spark, [file])
    rows = rows.withColumns({"content_hash": F.lit("h"), "label": F.lit(None).cast("string")})
    measured = (F.count("*"), F.sum("margin"), F.max("sid"))
    assign(rows, model).agg(*measured).collect()
    started, cpu = time.monotonic(), _cpu_of_all()
    used = assign(rows, model).agg(*measured).head()[0]
    found = _speed(used, time.monotonic() - started, _cpu_of_all() - cpu)
    spark.stop()
    return found


def search_with_faiss(model: str, file: str) -> dict[str, float]:
    """Rows a second of one flat index a level over residuals, on all cores, vectors already in memory."""
    import faiss

    from akt_spark.semantic.arithmetic import layer_norm
    from akt_spark.semantic.kinds import load_quantizer

    faiss.omp_set_num_threads(CORES)
    column = pq.read_table(file, columns=["vector"]).column("vector").combine_chunks()
    residual = layer_norm(column.flatten().to_numpy().reshape(len(column), -1))
    codebooks = load_quantizer(model).codebooks
    started, cpu = time.monotonic(), time.process_time()
    for codebook in codebooks:
        index = faiss.IndexFlatL2(codebook.shape[1])
        index.add(codebook)
        found = index.search(residual, 1)[1][:, 0]
        residual = residual - codebook[found]
    return _speed(len(residual), time.monotonic() - started, time.process_time() - cpu)


def _speed(rows: int, seconds: float, cpu_seconds: float) -> dict[str, float]:
    speeds = {"rows_a_second": round(rows / seconds), "rows_a_cpu_second": round(rows / cpu_seconds)}
    return {"rows": rows, "assign_seconds": round(seconds, 2), "assign_cpu_seconds": round(cpu_seconds, 2)} | speeds


def _cpu_of_all() -> float:
    """CPU seconds so far of this process and those it started that live: the JVM and the Python workers."""
    me = psutil.Process()
    times = [process.cpu_times() for process in (me, *me.children(recursive=True))]
    return sum(taken.user + taken.system for taken in times)


def prepare(folder: Path) -> tuple[str, str]:
    """A fitted model and the Parquet file of what it is to assign."""
    from akt_spark.config import QuantizerConfig
    from akt_spark.semantic.kinds import new_quantizer

    model, file = folder / "model", folder / "vectors.parquet"
    quantizer = new_quantizer(QuantizerConfig(kind="rqkmeans", sizes=SIZES))
    quantizer.fit(synthetic(FIT_ROWS, seed=1)[0])
    quantizer.save(model)
    schema = pa.schema({"id": pa.string(), "vector": pa.list_(pa.float32())})
    with pq.ParquetWriter(file, schema) as writer:
        for start in range(0, ASSIGN_ROWS, FIT_ROWS):
            x = synthetic(FIT_ROWS, seed=2 + start)[0]
            offsets = pa.array(np.arange(len(x) + 1, dtype=np.int32) * DIM)
            ids = pa.array([f"v{n}" for n in range(start, start + len(x))])
            writer.write_table(pa.table([ids, pa.ListArray.from_arrays(offsets, x.ravel())], schema=schema))
    return str(model), str(file)


CHILDREN = {"fit": fit, "spark": assign_in_spark, "faiss": search_with_faiss}


def main() -> None:
    if len(sys.argv) > 1 and sys.argv[1] in CHILDREN:
        print(json.dumps(CHILDREN[sys.argv[1]](*sys.argv[2:])))
        return
    parser = measure.parser(__doc__)
    parser.add_argument("--lake", default=".demo/lake", help="a lake with aligned vectors of items")
    parser.add_argument("--rounds", type=int, default=3, help="timed rounds, sides in turns")
    parser.add_argument("--note", default="", help="what a reader of the result should know of the machine")
    options = parser.parse_args()
    rows, bars = [], []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        unknown = np.empty(0, np.int64)
        for name, x, groups in (
            ("real items", aligned(options.lake), unknown),
            ("synthetic", *synthetic(FIT_ROWS, seed=1)),
        ):
            np.savez(folder / "x.npz", x=x, groups=groups)
            found = _fit_all({"vectors": name, "rows": len(x), "dim": x.shape[1]}, folder / "x.npz", options.rounds)
            rows += found.values()
            bars += _fit_bars(name, found)
        speeds = _assign_all(*prepare(folder), options.rounds)
    rows += speeds.values()
    for unit in ("second", "cpu_second"):
        ratio = speeds["spark"][f"rows_a_{unit}"] / speeds["faiss"][f"rows_a_{unit}"]
        name = (
            f"rows a {unit.replace('cpu', 'CPU').replace('_', ' ')} in Spark, against a faiss search on the same cores"
        )
        bars.append(measure.at_least(name, ratio, 0.5))
    note = f"sizes {SIZES}; medians of {options.rounds} rounds in turns; one thread to fit, {CORES} cores to assign"
    note += options.note and f"; {options.note}"
    packages = ("faiss-cpu", "torch", "numpy", "pyspark")
    measure.write(options.out, __doc__.splitlines()[0], packages, rows, bars, note)


def _fit_all(shape: dict[str, object], file: Path, rounds: int) -> dict[str, dict]:
    taken: dict[str, list[float]] = {side: [] for side in SIDES}
    found = {}
    for _ in range(rounds):
        for side in SIDES:
            found[side] = measure.child([__file__, "fit", side, str(file)], ONE_THREAD)
            taken[side].append(found[side]["fit_cpu_seconds"])
            print(shape["vectors"], side, json.dumps(found[side]), flush=True)
    return {
        side: shape | {"quantizer": side} | found[side] | {"fit_cpu_seconds": statistics.median(taken[side])}
        for side in SIDES
    }


def _fit_bars(name: str, found: dict[str, dict]) -> list[dict]:
    """Coverage of all of ours; `LIMITED` against each peer, so that one and the same quantiser meets all bars."""
    bars = [
        measure.at_least(f"{name}: coverage of {side}, its lowest level", min(found[side]["coverage"]), 1.0)
        for side in OURS
    ]
    for peer in PEERS:
        pair = f"{name}: {LIMITED}, against {peer}"
        keys = ("unexplained_variance", "distinct_ids", "largest_bucket", "fit_cpu_seconds")
        ratio = {key: found[LIMITED][key] / found[peer][key] for key in keys}
        bars += [
            measure.at_most(f"{pair}: unexplained variance", ratio["unexplained_variance"], 1.0),
            measure.at_least(f"{pair}: distinct IDs", ratio["distinct_ids"], 1.0),
            measure.at_most(f"{pair}: largest bucket", ratio["largest_bucket"], 1.0),
            measure.at_most(f"{pair}: CPU time to fit", ratio["fit_cpu_seconds"], 3.0),
        ]
    return bars


def _assign_all(model: str, file: str, rounds: int) -> dict[str, dict]:
    found: dict[str, list[dict]] = {"spark": [], "faiss": []}
    for _ in range(rounds):
        for side in found:
            found[side].append(measure.child([__file__, side, model, file], NO_SPINNING))
            print(side, json.dumps(found[side][-1]), flush=True)
    middle = {side: sorted(all_, key=lambda row: row["rows_a_second"])[rounds // 2] for side, all_ in found.items()}
    return {side: {"vectors": "synthetic", "assigned_by": side} | row for side, row in middle.items()}


if __name__ == "__main__":
    main()
