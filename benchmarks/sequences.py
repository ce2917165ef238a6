"""Activity and sequences at scale: Spark beside DuckDB and Polars, and one more night on top of sixty.

    python benchmarks/sequences.py --out benchmarks/results/sequences.json

All engines read the same Parquet files of a Zipf log in which one user has a quarter of all events, and write the two
activity logs and the user sequences as Parquet, each in a process of its own on the same cores, one after the other.
The nights run the product's own stages on Delta tables in one session.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import duckdb
import measure
import polars
from pyspark.sql import SparkSession

LENGTH = 50
DAYS, FIRST = 60, date(2024, 1, 1)
CORES = 2
KINDS = {"impressions": "impression", "clicks": "click", "carts": "cart", "purchases": "purchase"}
POSITIVE = ("click", "cart", "purchase")
BULK = {  # settings for one large load; a night is too small for them
    "spark.driver.extraJavaOptions": "-XX:+UseParallelGC",
    "spark.sql.files.maxPartitionBytes": "32m",  # an aggregate of a few days fits the caches of a core
    "spark.sql.adaptive.coalescePartitions.enabled": "false",
    "spark.sql.codegen.aggregate.map.twolevel.enabled": "false",
}


def draw(folder: Path, events: int) -> None:
    """Writes a log of ``DAYS`` + 1 days, sorted by day: ids by Zipf's law (exponent 1), a quarter of one user."""
    users, items = events // 50, max(events // 500, 1000)
    second, user, item = f"range * {(DAYS + 1) * 86400} // {events}", _zipf(users), _zipf(items)
    folder.mkdir(parents=True, exist_ok=True)
    with duckdb.connect(config={"threads": CORES}) as connection:
        connection.execute("SELECT setseed(0.5)")
        connection.execute(f"""
            COPY (
                SELECT printf('%016x', hash(range)) AS event_id,
                    CASE WHEN random() < 0.25 THEN 'u0' ELSE 'u' || {user} END AS user_id,
                    'i' || {item} AS item_id,
                    CASE WHEN kind < 0.85 THEN 'impression' WHEN kind < 0.97 THEN 'click'
                        WHEN kind < 0.99 THEN 'cart' ELSE 'purchase' END AS event_type,
                    (TIMESTAMP '{FIRST}' + to_seconds(second))::TIMESTAMPTZ AS event_time,
                    CASE WHEN random() < 0.5 THEN NULL ELSE floor(random() * 9)::BIGINT END AS event_order,
                    NULL::DOUBLE AS value,
                    (DATE '{FIRST}' + (second // 86400)::INT) AS ds
                FROM (SELECT range, random() AS kind, {second} AS second FROM range({events}))
            ) TO '{folder}/events.parquet' (ROW_GROUP_SIZE 500000)
        """)


def _zipf(size: int) -> str:
    """SQL that draws a rank from 1 to ``size`` with a chance of about 1 / rank."""
    return f"floor(exp(random() * ln({size})))::INT"


def with_spark(data: Path, out: Path) -> dict[str, float]:
    """The product's functions; the session's start is told apart from the work."""
    from akt_spark.config import FeaturesConfig
    from akt_spark.features.activity import activity_log, daily_counts
    from akt_spark.features.sequences import user_sequences

    started = time.monotonic()
    spark = _session(BULK)
    ready = time.monotonic()
    events = spark.read.parquet(str(data / "events.parquet"))
    for entity in ("item", "user"):
        activity_log(daily_counts(events, entity), entity).write.parquet(str(out / f"{entity}_activity"))
    user_sequences(events, FeaturesConfig(sequence_length=LENGTH)).write.parquet(str(out / "user_sequences"))
    done = time.monotonic()
    spark.stop()
    return {"start": round(ready - started, 2), "work": round(done - ready, 2)}


def with_duckdb(data: Path, out: Path) -> dict[str, float]:
    """The same rows by SQL."""
    started = time.monotonic()
    connection = duckdb.connect(config={"threads": CORES})
    connection.execute(f"CREATE VIEW events AS SELECT * FROM '{data}/events.parquet'")
    counts = ", ".join(f"count(*) FILTER (event_type = '{kind}') AS {name}" for name, kind in KINDS.items())
    sums = ", ".join(f"(sum({name}) OVER up_to_day)::BIGINT AS {name}" for name in KINDS)
    for entity in ("item", "user"):
        _copy(
            connection,
            out / f"{entity}_activity",
            f"""
            WITH daily AS (SELECT {entity}_id, ds, {counts} FROM events GROUP BY ALL)
            SELECT {entity}_id, ds, {sums}, count(*) OVER up_to_day AS active_days, min(ds) OVER up_to_day AS first_ds,
                ds AS last_ds
            FROM daily WINDOW up_to_day AS (PARTITION BY {entity}_id ORDER BY ds ROWS UNBOUNDED PRECEDING)
        """,
        )
    names = {"event_time": "event_times", "item_id": "items", "event_type": "event_types", "event_id": "event_ids"}
    lists = ", ".join(f"list({name} ORDER BY rank) AS {column}" for name, column in names.items())
    _copy(
        connection,
        out / "user_sequences",
        f"""
        WITH ranked AS (
            SELECT *, row_number() OVER (PARTITION BY user_id ORDER BY event_time DESC, event_order DESC NULLS FIRST,
                event_id DESC) AS rank
            FROM events WHERE event_type IN {POSITIVE} QUALIFY rank <= {LENGTH}
        )
        SELECT user_id, max(ds) AS as_of, count(*)::INT AS length, {lists},
            list(event_order ORDER BY rank) AS event_orders
        FROM ranked GROUP BY user_id
    """,
    )
    return {"work": round(time.monotonic() - started, 2)}


def with_polars(data: Path, out: Path) -> dict[str, float]:
    """The same rows by lazy frames."""
    started, col = time.monotonic(), polars.col
    events = polars.scan_parquet(data / "events.parquet")
    counts = [(col("event_type") == kind).sum().cast(polars.Int64).alias(name) for name, kind in KINDS.items()]
    for entity in ("item", "user"):
        key = f"{entity}_id"
        daily = events.group_by(key, "ds").agg(counts).sort(key, "ds")
        log = daily.with_columns(
            *(col(name).cum_sum().over(key) for name in KINDS),
            active_days=polars.int_range(1, polars.len() + 1).over(key),
            first_ds=col("ds").min().over(key),
            last_ds=col("ds"),
        )
        (out / f"{entity}_activity").mkdir(parents=True)
        log.sink_parquet(out / f"{entity}_activity" / "part.parquet")
    newest = (
        events.filter(col("event_type").is_in(POSITIVE))
        .with_columns(position=col("event_order").fill_null(2**63 - 1))
        .sort("event_time", "position", "event_id", descending=True)
        .group_by("user_id", maintain_order=True)
        .head(LENGTH)
        .group_by("user_id", maintain_order=True)
        .agg(
            as_of=col("ds").max(),
            length=polars.len().cast(polars.Int32),
            event_times=col("event_time"),
            items=col("item_id"),
            event_types=col("event_type"),
            event_ids=col("event_id"),
            event_orders=col("event_order"),
        )
    )
    (out / "user_sequences").mkdir(parents=True)
    newest.sink_parquet(out / "user_sequences" / "part.parquet")
    return {"work": round(time.monotonic() - started, 2)}


def nights(data: Path, out: Path) -> dict[str, float]:
    """Seconds of a build of ``DAYS`` days and of three nights on top of it, as the stages do it on Delta tables."""
    from pyspark.sql import functions as F

    from akt_spark.conf_file import load
    from akt_spark.features import activity, sequences
    from akt_spark.lake import Lake
    from akt_spark.stage import Context

    spark = _session({})
    lake = Lake(spark, str(out / "lake"))
    config = load(None, [f"features.sequence_length={LENGTH}", f"lake.root={out / 'lake'}"])
    last = FIRST + timedelta(days=DAYS - 1)
    events = spark.read.parquet(str(data / "events.parquet"))
    lake.append("bronze.events", events.where(F.col("ds") <= F.lit(last)))
    ctx = Context(spark, lake, config, last, "bulk")
    measured = {"rebuild": _timed(lambda: (activity.run(ctx), sequences.run(ctx)))}
    lake.append("bronze.events", events.where(F.col("ds") > F.lit(last)))
    tomorrow = replace(ctx, ds=last + timedelta(days=1))
    measured["night_activity"] = _timed(lambda: activity.run(tomorrow))
    measured["night_sequences"] = _timed(lambda: sequences.run(tomorrow))
    measured["night"] = measured["night_activity"] + measured["night_sequences"]
    spark.stop()
    return {name: round(seconds, 2) for name, seconds in measured.items()}


def _session(settings: dict[str, str]) -> SparkSession:
    from akt_spark.config import SparkConfig
    from akt_spark.session import spark_session

    heap = {"spark.driver.memory": "2g"}  # as in conf/spark-defaults.conf, for every size
    config = SparkConfig(master=f"local[{CORES}]", shuffle_partitions=32, settings=heap | settings)
    return spark_session(config, "benchmark")


def _timed(work) -> float:
    started = time.monotonic()
    work()
    return time.monotonic() - started


def _copy(connection: duckdb.DuckDBPyConnection, folder: Path, query: str) -> None:
    folder.mkdir(parents=True)
    connection.execute(f"COPY ({query}) TO '{folder}/part.parquet'")


def checksum(out: Path) -> list[tuple]:
    """Rows and an order-free hash of what an engine wrote."""
    with duckdb.connect() as connection:
        queries = [
            f"SELECT count(*), sum(hash({entity}_id, ds, impressions, clicks, carts, purchases, active_days, first_ds))"
            f" FROM '{out}/{entity}_activity/*.parquet'"
            for entity in ("item", "user")
        ]
        queries.append(
            "SELECT count(*), sum(hash(user_id, as_of, length, event_ids, items, event_types, event_orders))"
            f" FROM '{out}/user_sequences/*.parquet'"
        )
        return [connection.execute(query).fetchone() for query in queries]


ENGINES = {"spark": with_spark, "duckdb": with_duckdb, "polars": with_polars, "nights": nights}


def main() -> None:
    if len(sys.argv) > 1 and sys.argv[1] in ENGINES:
        _, engine, data, out = sys.argv
        print(json.dumps(ENGINES[engine](Path(data), Path(out))))
        return
    parser = measure.parser(__doc__)
    parser.add_argument("--events", type=int, nargs="+", default=[5_000_000, 50_000_000])
    parser.add_argument("--folder", help="where the log and the tables are written; a temporary folder by default")
    options = parser.parse_args()
    rows, bars = [], []
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        for events in options.events:
            rows += _compare(Path(temporary), events)
    by = {(row["events"], row["engine"]): row for row in rows}
    for events, limit in zip(options.events, (4.0, 2.5), strict=False):
        ratio = by[events, "spark"]["seconds"] / by[events, "duckdb"]["seconds"]
        bars.append(measure.at_most(f"spark against duckdb, {events:,} events, whole process", ratio, limit))
    small, large = (by[events, "spark"]["peak_gib"] for events in (options.events[0], options.events[-1]))
    bars.append(measure.at_most("peak memory of spark, largest against smallest log", large / small, 1.5))
    for events in options.events:
        night = by[events, "nights"]
        bars.append(
            measure.at_most(f"night on top of {DAYS}, {events:,} events", night["night"] / night["rebuild"], 1 / 20)
        )
    measure.write(options.out, __doc__.splitlines()[0], ("pyspark", "delta-spark", "duckdb", "polars"), rows, bars)


def _compare(folder: Path, events: int) -> list[dict]:
    data, rows, sums = folder / f"data-{events}", [], {}
    draw(data, events)
    for engine in ENGINES:
        out = folder / f"{engine}-{events}"
        rows.append({"events": events, "engine": engine} | measure.child([__file__, engine, str(data), str(out)]))
        print(json.dumps(rows[-1]), flush=True)
        if engine != "nights":
            sums[engine] = checksum(out)
    different = {engine: found for engine, found in sums.items() if found != sums["spark"]}
    if different:
        raise SystemExit(f"{events:,} events: results differ: {sums}")
    return rows


if __name__ == "__main__":
    main()
