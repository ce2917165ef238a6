"""The SparkSession: Delta, UTC, Arrow; local, or whatever master spark-submit was given."""

from __future__ import annotations

import os
import sys

from pyspark.sql import SparkSession

from akt_spark.config import SparkConfig

DELTA_PACKAGE = "io.delta:delta-spark_2.13:4.0.1"
# glibc in Python workers: the arrays of a batch reuse memory, for a page fault costs more than arithmetic on the page;
# these are the values that its own adjustment stops at
WORKER_MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(32 * 2**20), "MALLOC_TRIM_THRESHOLD_": str(64 * 2**20)}


def spark_session(config: SparkConfig, app_name: str) -> SparkSession:
    """Starts the session, or returns the one that runs.

    Under ``spark-submit`` the JVM already runs and its master and memory stand; ``spark.master`` of the
    configuration counts only for ``python jobs/x.py``. Delta's jars come from the installation (``make setup``)
    or from ``--packages``.
    """
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = SparkSession.builder.appName(app_name)
    if "PYSPARK_GATEWAY_PORT" not in os.environ:
        builder = builder.master(config.master)
    settings = {
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.legacy.parquet.nanosAsLong": "true",  # what pandas writes; sources/tables.py makes times of them
        "spark.sql.shuffle.partitions": str(config.shuffle_partitions),
        "spark.sql.execution.arrow.pyspark.enabled": "true",
        "spark.sql.execution.arrow.maxRecordsPerBatch": "1024",  # rows may hold images and vectors
        **{f"spark.executorEnv.{name}": value for name, value in WORKER_MALLOC.items()},
        "spark.databricks.delta.snapshotPartitions": "2",
        "spark.sql.codegen.cache.maxEntries": "5000",  # a night compiles more than the default 100 again and again
        "spark.ui.showConsoleProgress": str(sys.stderr.isatty()).lower(),
        **config.settings,
    }
    for key, value in settings.items():
        builder = builder.config(key, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    return spark
