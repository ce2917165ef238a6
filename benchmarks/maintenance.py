"""What jobs/maintain.py does to a lake of 60 nights: files, bytes, and the time of analysts' queries before and after.

    python benchmarks/maintenance.py --out benchmarks/results/maintenance.json

The nights are small and synthetic, but commit as the stages do: appends of events, activity, IDs, predictions and run
records, merges of sequences, and look-ups written anew. The lake is built in minutes, so no file is a week old: the
retention is set to zero here, and what protects the kept runs is that their versions are pinned. Queries run on a copy
of the lake as it was and on the maintained one, in turns.
"""

from __future__ import annotations

import re
import shutil
import statistics
import tempfile
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import measure
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from akt_spark.catalog import catalog_statements
from akt_spark.config import MaintenanceConfig, SparkConfig
from akt_spark.lake import SCHEMAS, Lake, declared_tables
from akt_spark.maintenance.files import live
from akt_spark.maintenance.maintain import maintain
from akt_spark.maintenance.policy import pinned_versions, runs
from akt_spark.session import spark_session

FIRST = date(2024, 1, 1)
EVENTS, USERS, ITEMS = 3000, 600, 1500  # events a night
KINDS = ("impression", "impression", "click", "cart")
INTERPRETED = {"spark.sql.codegen.wholeStage": "false", "spark.sql.codegen.factoryMode": "NO_CODEGEN"}
README = Path(__file__).resolve().parent.parent / "README.md"
QUERIES = {
    "one item's events": "SELECT event_type, count(*) FROM bronze.events WHERE item_id = 'i17' GROUP BY event_type",
    "one user's events": "SELECT * FROM bronze.events WHERE user_id = 'u17' ORDER BY event_time DESC",
    "one day's clicks and impressions": "SELECT count_if(event_type = 'click'), count_if(event_type = 'impression') "
    "FROM bronze.events WHERE ds = DATE '2024-02-11'",
    "one item as of a day": "SELECT max_by(clicks, ds) FROM features.item_activity "
    "WHERE item_id = 'i17' AND ds <= DATE '2024-02-11'",
    "one user's sequence": "SELECT * FROM features.user_sequences WHERE user_id = 'u17'",
    "one run's predictions": "SELECT item_idx, avg(score) FROM serving.predictions WHERE run_id = '2024-02-29' "
    "GROUP BY item_idx",
}


def build(lake: Lake, nights: int) -> None:
    """Commits of ``nights`` nights."""
    spark = lake.spark
    items = spark.range(ITEMS).select(F.format_string("i%d", "id").alias("item_id"), F.col("id").alias("n"))
    catalogue = items.withColumns({"title": F.col("item_id"), "content_hash": F.lit("h")})
    lake.overwrite("bronze.items", _filled(lake, "bronze.items", catalogue.drop("n")))
    book = {"entity": "item", "codebook_version": "b", "quantizer": "rqvae", "sizes": [32, 32], "path": "p"}
    book |= {"encoder_revision": "e", "config_hash": "h", "status": "published", "fitted_ds": FIRST}
    lake.append("semantic.codebooks", spark.createDataFrame([book], lake.schema("semantic.codebooks")))
    for number in range(nights):
        _night(lake, number, items)
        print(f"night {number + 1} of {nights}", flush=True)


def _night(lake: Lake, number: int, items: DataFrame) -> None:
    ds = FIRST + timedelta(days=number)
    _write_events(lake, number, ds)
    _write_features(lake, number, ds)
    _write_models(lake, number, ds, items)
    outputs = {table: lake.version(table) for table in declared_tables() if lake.exists(table)}
    record = {"run_id": ds.isoformat(), "stage": "nightly", "ds": ds, "status": "done", "fingerprint": "f"}
    record |= {"code_revision": "c", "config": "{}", "inputs": {}, "outputs": outputs, "rows_in": 1, "rows_out": 1}
    record |= {"quarantined": 0, "seconds": 1.0, "notes": [], "error": None}
    record |= {"started_at": datetime(2024, 3, 1, tzinfo=UTC) + timedelta(days=number)}
    lake.append("ops.runs", lake.spark.createDataFrame([record], lake.schema("ops.runs")))


def _write_events(lake: Lake, number: int, ds: date) -> None:
    sizes = {"user": USERS, "item": ITEMS, "second": 86_400, "kind": len(KINDS)}
    draws = {name: F.pmod(F.xxhash64("id", F.lit(f"{number} {name}")), F.lit(n)) for name, n in sizes.items()}
    events = lake.spark.range(EVENTS).withColumns(draws).repartition(2)
    events = events.select(
        F.format_string(f"{number}-%d", "id").alias("event_id"),
        F.format_string("u%d", "user").alias("user_id"),
        F.format_string("i%d", "item").alias("item_id"),
        F.get(F.array(*map(F.lit, KINDS)), F.col("kind")).alias("event_type"),
        F.timestamp_seconds(F.unix_timestamp(F.lit(ds)) + F.col("second")).alias("event_time"),
        F.lit(ds).alias("ds"),
    )
    lake.append("bronze.events", _filled(lake, "bronze.events", events))


def _write_features(lake: Lake, number: int, ds: date) -> None:
    today = lake.read("bronze.events").where(F.col("ds") == F.lit(ds)).persist()
    for entity in ("item", "user"):
        active = today.groupBy(f"{entity}_id").agg(F.count("*").alias("impressions"))
        counts = {name: F.lit(number) for name in ("clicks", "carts", "purchases", "active_days")}
        days = {"ds": F.lit(ds), "first_ds": F.lit(FIRST), "last_ds": F.lit(ds)}
        lake.append(f"features.{entity}_activity", active.withColumns(counts | days))
    event = {"items": "item_id", "event_types": "event_type", "event_times": "event_time"}
    sequences = today.groupBy("user_id").agg(*(F.collect_list(column).alias(name) for name, column in event.items()))
    sequences = sequences.withColumns({"as_of": F.lit(ds), "length": F.size("items")})
    lake.merge("features.user_sequences", _filled(lake, "features.user_sequences", sequences, otherwise=F.array()))
    today.unpersist()


def _write_models(lake: Lake, number: int, ds: date, items: DataFrame) -> None:
    coded = items.withColumn("codes", F.array(F.col("n") % 32, F.col("n") % 7))
    ids = coded.where(F.col("n") % 60 == number).drop("n")
    constants = {
        "codebook_version": F.lit("b"),
        "distance": F.lit(0.1),
        "margin": F.lit(0.5),
        "content_hash": F.lit("h"),
    }
    constants |= {"assigned_ds": F.lit(ds), "offset_codes": F.col("codes"), "sid": F.array_join("codes", "-")}
    lake.append("semantic.item_ids", ids.withColumns(constants))
    role = F.when(F.col("n") % 9 == 0, "teacher").otherwise("student")
    constants = {"idx": F.col("n") + 1, "impressions": F.col("n") % 50, "clicks": F.col("n") % 5, "role": role}
    constants |= {"segment": F.lit("tail"), "category": F.lit(number), "attributes": F.array(F.lit(0))}
    lookup = coded.withColumns(constants | {"activity": F.array(F.lit(0.0))}).drop("n")
    lake.overwrite("training.items", _filled(lake, "training.items", lookup))
    sample_id = F.format_string(f"{number}-%d", "id").alias("sample_id")
    scored = lake.spark.range(1000).select(sample_id, (F.col("id") % ITEMS).alias("item_idx"))
    constants = {"run_id": F.lit(ds.isoformat()), "variant": F.lit("base"), "seed": F.lit(1), "user_idx": F.lit(1)}
    lake.append("serving.predictions", scored.withColumns(constants | {"label": F.lit(0.0), "score": F.lit(0.5)}))


def _filled(lake: Lake, table: str, rows: DataFrame, otherwise: Column | None = None) -> DataFrame:
    """Adds the declared columns that the benchmark has no values for."""
    lacking = [field for field in lake.schema(table) if field.name not in rows.columns]
    value = F.lit(None) if otherwise is None else otherwise
    return rows.withColumns({field.name: value.cast(field.dataType) for field in lacking}) if lacking else rows


def sizes(lake: Lake) -> dict[str, dict[str, int]]:
    """Live files, and data files and bytes on disk, of every table."""
    found = {}
    for table in filter(lake.exists, declared_tables()):
        files = [file for file in Path(lake.path(table)).rglob("*.parquet") if "_delta_log" not in file.parts]
        size = sum(file.stat().st_size for file in files)
        found[table] = {"live_files": live(lake, table).files, "files_on_disk": len(files), "bytes_on_disk": size}
    return found


def queries() -> dict[str, str]:
    """Those of the README, and more by item, user and day."""
    blocks = re.findall(r"```sql\n(.*?);?\n```", README.read_text(), flags=re.DOTALL)
    return {f"README {n}": sql.rstrip(";\n") for n, sql in enumerate(blocks, 1)} | QUERIES


def name_tables(spark: SparkSession, root: str) -> None:
    """Gives the tables and views of one lake their names."""
    for view in (SCHEMAS / "views").glob("*.sql"):
        spark.sql(f"DROP VIEW IF EXISTS {view.stem}")
    for table in declared_tables():
        spark.sql(f"CREATE SCHEMA IF NOT EXISTS {table.split('.')[0]}")
        spark.sql(f"DROP TABLE IF EXISTS {table}")
    for statement in catalog_statements(root):
        spark.sql(statement)


def time_queries(spark: SparkSession, roots: dict[str, str], rounds: int) -> dict[str, dict[str, float]]:
    """Median seconds of every query on every lake, in turns; the first round warms up and does not count."""
    taken: dict[str, dict[str, list[float]]] = {}
    for turn in range(rounds + 1):
        for side, root in roots.items():
            name_tables(spark, root)
            for query, sql in queries().items():
                started = time.perf_counter()
                spark.sql(sql).collect()
                if turn:
                    taken.setdefault(query, {}).setdefault(side, []).append(time.perf_counter() - started)
    return {
        query: {side: round(statistics.median(seconds), 3) for side, seconds in sides.items()}
        for query, sides in taken.items()
    }


def pinned_rows(lake: Lake, kept: MaintenanceConfig) -> dict[str, list[int]]:
    """Rows of the pinned versions of three tables: [version, rows, version, rows, ...], oldest first."""
    pinned = pinned_versions(lake, runs(lake, kept.keep_runs).kept)
    tables = ("bronze.events", "training.items", "features.user_sequences")
    return {table: [n for v in sorted(pinned[table])[:3] for n in (v, lake.read(table, v).count())] for table in tables}


def main() -> None:
    parser = measure.parser(__doc__)
    parser.add_argument("--nights", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds of all queries on each lake")
    args = parser.parse_args()
    policy = MaintenanceConfig().model_copy(update={"retention_hours": 0})
    folder = Path(tempfile.mkdtemp(prefix="maintenance"))
    settings = {"spark.databricks.delta.retentionDurationCheck.enabled": "false", "spark.driver.memory": "2g"}
    settings |= {"spark.sql.warehouse.dir": str(folder / "warehouse"), "spark.ui.enabled": "false"}
    spark = spark_session(SparkConfig(shuffle_partitions=2, settings=settings), "benchmark of maintenance")
    lake, copy = Lake(spark, str(folder / "lake")), folder / "before"
    try:
        for key, value in INTERPRETED.items():  # commits of a few rows: compiling plans costs more than running them
            spark.conf.set(key, value)
        build(lake, args.nights)
        for key in INTERPRETED:
            spark.conf.unset(key)
        shutil.copytree(lake.root, copy)
        before, seen = sizes(lake), pinned_rows(lake, policy)
        started = time.perf_counter()
        lines = list(maintain(lake, policy))
        seconds = round(time.perf_counter() - started, 1)
        after, still_seen = sizes(lake), pinned_rows(lake, policy)
        again = list(maintain(lake, policy))
        timed = time_queries(spark, {"before": str(copy), "after": lake.root}, args.rounds)
    finally:
        spark.stop()
        shutil.rmtree(folder)
    total = {
        name: {key: sum(t[key] for t in side.values()) for key in ("live_files", "files_on_disk", "bytes_on_disk")}
        for name, side in (("before", before), ("after", after))
    }
    query_seconds = {side: round(sum(t[side] for t in timed.values()), 3) for side in ("before", "after")}
    ratio = {key: round(total["after"][key] / total["before"][key], 3) for key in total["before"]}
    speed_up = round(query_seconds["before"] / query_seconds["after"], 2)
    rows = [{"table": t, "before": before[t], "after": after[t]} for t in before]
    rows += [{"table": "all", **total, "maintain_seconds": seconds}]
    rows += [{"query": q, **sides} for q, sides in timed.items()] + [{"query": "all", **query_seconds}]
    rows += [{"line": line} for line in lines if "/" not in line]
    changed = sum(seen[table] != still_seen[table] for table in seen)
    bars = [
        measure.at_most("live files, after / before", ratio["live_files"], 0.2),
        measure.at_most("files on disk, after / before", ratio["files_on_disk"], 1.0),
        measure.at_least("all queries, before / after", speed_up, 1.0),
        measure.at_most("tables whose pinned versions have other row counts than before", changed, 0),
        measure.at_most("things that a second run finds to do", len(again) - 1, 0),
    ]
    note = "retention 0 instead of a week; queries in turns on a copy as it was and on the maintained lake, medians"
    measure.write(args.out, __doc__.splitlines()[0], ("pyspark", "delta-spark"), rows, bars, note)


if __name__ == "__main__":
    main()
