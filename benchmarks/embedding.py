"""Embedding: the product's job beside a bare loop over the same encoder, and beside Daft with the same encoder.

    python benchmarks/embedding.py --data FOLDER --out benchmarks/results/embedding.json

One encoder (minilm_vl as configured by default), the same rows and two cores, sides in turns; texts, images and both.
Every side has loaded its model and done some rows before its clock starts, so neither JVM start nor loading counts:

- spark: from the call of the stage's function to its return: rows are found (anti-join), shipped to the workers,
  encoded and merged into the Delta table.
- bare: a process a core, each with half of the rows in memory, sorted and batched within the same budget of tokens;
  from the moment at which both are ready to the end of the later one. Nothing is written.
- daft: a UDF process a core over a Parquet file, which sorts and batches the rows it is given in the same way; from
  the first row that reaches one to the written Parquet file.

FOLDER holds one Parquet file of texts (item_id or article_id; title or prod_name; plot or detail_desc; genres) and one
of photos (item_id, image). Without it, texts of log-normal length and photos are made up.
"""

from __future__ import annotations

import io
import itertools
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

CORES = 2
KINDS = ("text", "images", "both")
SIDES = ("spark", "bare", "daft")
WARM_ROWS = 64
DAFT, DAFT_ROWS = (
    "daft==0.7.26",
    256,
)  # rows that a UDF is given at once: enough to sort, few enough for both cores to share
ROUNDS_NOTE = "medians of {rounds} rounds in turns; {cores} cores; {rows} rows of {data}; start and loading left out"
TEXTS = {
    "item_id": ("item_id", "article_id"),
    "title": ("title", "prod_name"),
    "description": ("plot", "detail_desc"),
    "category": ("genres", "product_group_name"),
}


def config(kind: str):
    """The encoder's configuration of one kind of rows."""
    from akt_spark.config import EncoderConfig

    return EncoderConfig(use_images=kind != "text")


def load_encoder(kind: str):
    """The encoder, on one thread."""
    import torch

    from akt_spark.content.encoders import encoder_spec

    torch.set_num_threads(1)
    return encoder_spec(config(kind)).load("cpu")


def encode(encoder, texts: list[str], images: list[bytes | None], kind: str) -> list:
    """The bare loop: rows sorted by length, in batches within the budget, one after the other."""
    import numpy as np

    from akt_spark.content.batching import token_batches

    settings = config(kind)
    given = np.array([image is not None for image in images])
    vectors = [None] * len(texts)
    for rows in token_batches(encoder.lengths(texts, images), settings.batch_size, settings.batch_tokens, given):
        found = encoder.encode([texts[i] for i in rows], [images[i] for i in rows]).vectors
        for row, vector in zip(rows, found, strict=True):
            vectors[row] = vector
    return vectors


def run_spark(kind: str, file: str, folder: str) -> dict[str, object]:
    """The product's stage function, in a session whose workers have loaded the encoder."""
    from pyspark.sql import functions as F

    from akt_spark.conf_file import load
    from akt_spark.config import SparkConfig
    from akt_spark.content.encoders import encoder_spec
    from akt_spark.content.items import embed_catalogue
    from akt_spark.lake import Lake
    from akt_spark.session import spark_session
    from akt_spark.stage import Context

    settings = {"spark.ui.enabled": "false", "spark.driver.memory": "2g", "spark.driver.host": "127.0.0.1"}
    spark = spark_session(SparkConfig(master=f"local[{CORES}]", settings=settings), "benchmark of embedding")
    root = f"{folder}/lake-{kind}-{time.time_ns()}"
    lake = Lake(spark, root)
    ctx = Context(spark, lake, load(None, [f"lake.root={root}", f"encoder.use_images={kind != 'text'}"]), _day(), "run")
    spec = encoder_spec(ctx.config.encoder)
    rows = spark.read.parquet(file)
    blank = F.lit("" if kind == "images" else None)
    rows = rows.select(
        "item_id",
        (blank if kind == "images" else F.col("title")).alias("title"),
        (F.lit(None) if kind == "images" else F.col("description")).cast("string").alias("description"),
        (F.lit(None) if kind == "images" else F.array("category")).cast("array<string>").alias("category"),
        F.lit(None).cast("string").alias("brand"),
        F.lit(None).cast("double").alias("price"),
        F.lit(None).cast("map<string,string>").alias("attributes"),
        "image",
        F.lit(None).cast("date").alias("first_seen"),
        F.lit("h").alias("content_hash"),
    )
    lake.overwrite("bronze.items", rows.limit(WARM_ROWS).withColumn("item_id", F.concat(F.lit("warm"), "item_id")))
    embed_catalogue(ctx, spec)
    lake.overwrite("bronze.items", rows)
    started = time.monotonic()
    report = embed_catalogue(ctx, spec)
    seconds = time.monotonic() - started
    spark.stop()
    return {"rows": report.rows, "embed_seconds": round(seconds, 2), "notes": report.notes[-1]}


def run_bare(kind: str, file: str, folder: str) -> dict[str, object]:
    """A process a core."""
    spawn = multiprocessing.get_context("spawn")
    ready, times = spawn.Barrier(CORES), spawn.Queue()
    processes = [spawn.Process(target=_bare_process, args=(n, kind, file, ready, times)) for n in range(CORES)]
    for process in processes:
        process.start()
    found = [times.get() for _ in processes]
    for process in processes:
        process.join()
    seconds = max(end for _, _, end in found) - min(start for _, start, _ in found)
    return {"rows": sum(rows for rows, _, _ in found), "embed_seconds": round(seconds, 2)}


def _bare_process(number: int, kind: str, file: str, ready, times) -> None:
    texts, images = read_rows(kind, file)
    texts, images = texts[number::CORES], images[number::CORES]
    encoder = load_encoder(kind)
    encode(encoder, texts[: WARM_ROWS // CORES], images[: WARM_ROWS // CORES], kind)
    ready.wait()
    started = time.time()
    done = encode(encoder, texts, images, kind)
    times.put((len(done), started, time.time()))


def run_daft(kind: str, file: str, folder: str) -> dict[str, object]:
    """In Daft's own environment, to which that of the product is appended."""
    import daft

    starts = Path(folder, f"daft-{kind}-{time.time_ns()}")
    starts.mkdir()

    @daft.udf(
        return_dtype=daft.DataType.fixed_size_list(daft.DataType.float32(), 384),
        concurrency=CORES,
        batch_size=DAFT_ROWS,
        use_process=True,
    )
    class Embed:
        def __init__(self) -> None:
            sys.path.insert(0, str(Path(__file__).parent))
            import embedding

            self.script, self.encoder = embedding, embedding.load_encoder(kind)
            texts, images = embedding.read_rows(kind, file)
            embedding.encode(self.encoder, texts[: WARM_ROWS // CORES], images[: WARM_ROWS // CORES], kind)

        def __call__(self, texts, images):
            (starts / str(time.time())).touch()
            return self.script.encode(self.encoder, texts.to_pylist(), images.to_pylist(), kind)

    frame = daft.read_parquet(file)
    image = daft.lit(None).cast(daft.DataType.binary()) if kind == "text" else frame["image"]
    text = daft.lit("") if kind == "images" else frame["text"]
    frame = frame.select(frame["item_id"], text.alias("text"), image.alias("image"))
    frame = frame.into_batches(DAFT_ROWS).select("item_id", Embed(frame["text"], frame["image"]).alias("vector"))
    written = frame.write_parquet(str(starts / "vectors")).to_pydict()["path"]
    seconds = time.time() - min(float(start.name) for start in starts.iterdir() if start.is_file())
    import pyarrow.parquet as pq

    rows = sum(pq.read_metadata(path).num_rows for path in written)
    return {"rows": rows, "embed_seconds": round(seconds, 2)}


def read_rows(kind: str, file: str) -> tuple[list[str], list[bytes | None]]:
    """Texts and images of a kind, in memory."""
    import pyarrow.parquet as pq

    table = pq.read_table(file, columns=["text", "image"])
    texts, images = table.column("text").to_pylist(), table.column("image").to_pylist()
    return [""] * len(texts) if kind == "images" else texts, [None] * len(texts) if kind == "text" else images


def write_rows(data: str | None, rows: int, file: Path) -> None:
    """One Parquet file for all sides: item_id, title, description, category, the prompt made of them, image."""
    import pandas as pd

    from akt_spark.content.prompts import item_prompt

    frame = _real(Path(data)) if data else _made_up(rows)
    frame = frame.sort_values("item_id").sample(min(rows, len(frame)), random_state=1)
    frame["text"] = [
        item_prompt(row.title, [row.category], None, None, row.description) for row in frame.itertuples(index=False)
    ]
    pd.DataFrame(frame).to_parquet(file, index=False, row_group_size=256)


def _real(folder: Path):
    import pandas as pd
    import pyarrow.parquet as pq

    texts = images = None
    for file in sorted(folder.glob("*.parquet")):
        names = pq.read_schema(file).names
        if "image" in names:
            images = pd.read_parquet(file, columns=["item_id", "image"])
        elif any(name in names for name in TEXTS["title"]):
            chosen = {key: next(name for name in given if name in names) for key, given in TEXTS.items()}
            texts = pd.read_parquet(file, columns=list(chosen.values()))
            texts = texts.rename(columns={name: key for key, name in chosen.items()})
    if texts is None or images is None:
        raise SystemExit(f"--data {folder}: no Parquet file with titles, or none with images")
    both = texts.astype({"item_id": str}).merge(images.astype({"item_id": str}), on="item_id")
    return both.drop_duplicates("item_id").dropna(subset=["title", "image"])


def _made_up(rows: int):
    import numpy as np
    import pandas as pd
    from PIL import Image

    draw = np.random.default_rng(1)
    pairs = itertools.product(("red", "old", "fast", "deep", "sun"), ("ship", "light", "ing", "man"))
    words = np.array(["".join(pair) for pair in pairs])

    def text(mean: float) -> str:
        return " ".join(draw.choice(words, int(np.clip(draw.lognormal(mean, 0.8), 1, 200))))

    def photo() -> bytes:
        coarse = Image.fromarray(draw.integers(0, 256, (9, 6, 3), dtype=np.uint8))
        file = io.BytesIO()
        coarse.resize((128, 192), Image.Resampling.BICUBIC).save(file, "JPEG")
        return file.getvalue()

    made = [(f"i{n:06d}", text(1.2), text(2.5), str(draw.choice(words)), photo()) for n in range(rows)]
    return pd.DataFrame(made, columns=["item_id", "title", "description", "category", "image"])


RUNS = {"spark": run_spark, "bare": run_bare, "daft": run_daft}


def _day():
    from datetime import date

    return date(2024, 1, 31)


def main() -> None:
    if len(sys.argv) > 1 and sys.argv[1] in RUNS:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
        print(json.dumps(RUNS[sys.argv[1]](*sys.argv[2:])), flush=True)
        return
    import measure

    parser = measure.parser(__doc__)
    parser.add_argument("--data", help="folder of real rows; without it, rows are made up")
    parser.add_argument("--rows", type=int, default=20_000, help="rows at most")
    parser.add_argument("--rounds", type=int, default=3, help="timed rounds, sides in turns")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="rows of which kinds")
    parser.add_argument("--remark", default="", help="what a reader has to know about this run")
    options = parser.parse_args()
    rows, bars = [], []
    with tempfile.TemporaryDirectory() as temporary:
        folder, file = Path(temporary), Path(temporary, "rows.parquet")
        write_rows(options.data, options.rows, file)
        python = measure.environment(folder, "daft", DAFT)
        for kind in options.kinds:
            found = _rounds(kind, file, folder, python, options.rounds)
            rows += found.values()
            ours = found["spark"]["rows_a_second"]
            bars += [
                measure.at_least(f"{kind}: rate against the bare loop", ours / found["bare"]["rows_a_second"], 0.95),
                measure.at_least(f"{kind}: rate against Daft", ours / found["daft"]["rows_a_second"], 1.0),
            ]
    data = Path(options.data).name if options.data else "a made-up catalogue"
    note = ROUNDS_NOTE.format(rounds=options.rounds, cores=CORES, rows=rows[0]["rows"], data=data)
    note = f"{note}; {DAFT}" + (f"; {options.remark}" if options.remark else "")
    measure.write(
        options.out, __doc__.splitlines()[0], ("torch", "transformers", "pyspark", "pillow"), rows, bars, note
    )


def _rounds(kind: str, file: Path, folder: Path, python: str, rounds: int) -> dict[str, dict]:
    """The median run of each side."""
    import measure

    found: dict[str, list[dict]] = {side: [] for side in SIDES}
    for _ in range(rounds):
        for side in SIDES:
            interpreter = python if side == "daft" else sys.executable
            row = measure.child([__file__, side, kind, str(file), str(folder)], python=interpreter)
            row["rows_a_second"] = round(row["rows"] / row["embed_seconds"], 1)
            found[side].append(row)
            print(kind, side, json.dumps(row), flush=True)
    counts = {row["rows"] for runs in found.values() for row in runs}
    if len(counts) > 1:
        raise SystemExit(f"the sides did not encode the same rows: {counts}")
    return {
        side: {"kind": kind, "side": side}
        | next(row for row in runs if row["rows_a_second"] == statistics.median_low(r["rows_a_second"] for r in runs))
        for side, runs in found.items()
    }


if __name__ == "__main__":
    main()
