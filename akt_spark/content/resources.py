"""Stage-level resources: embedding stages may ask for GPUs without the rest of the job holding them."""

from __future__ import annotations

import re

from pyspark import TaskContext
from pyspark.resource import ResourceProfile, ResourceProfileBuilder, TaskResourceRequests
from pyspark.sql import SparkSession

from akt_spark.config import EncoderConfig
from akt_spark.errors import ConfigError


def embedding_profile(spark: SparkSession, config: EncoderConfig) -> ResourceProfile | None:
    """The profile of embedding tasks; None where the configuration asks for no GPU.

    A profile of task requests only: it schedules on the GPUs that the executors already have
    (``spark.executor.resource.gpu.amount``), with or without dynamic allocation.

    Raises:
        ConfigError: for a local master, which has no executors to give GPUs to.
    """
    if config.gpus_per_task == 0:
        return None
    master = spark.sparkContext.master
    if master.split("[")[0] == "local":
        raise ConfigError(
            f"encoder.gpus_per_task is {config.gpus_per_task:g}, but the master is {master}: Spark gives GPUs to tasks "
            "only on a cluster; use a cluster master, or set encoder.gpus_per_task to 0"
        )
    requests = TaskResourceRequests().cpus(1).resource("gpu", config.gpus_per_task)
    return ResourceProfileBuilder().require(requests).build


def attempts(spark: SparkSession) -> int:
    """How often Spark tries a failing task before the job fails."""
    context = spark.sparkContext
    local = re.fullmatch(r"local(\[[^,]*(,\s*(?P<failures>\d+))?\])?", context.master)
    if local:
        return int(local["failures"] or 1)
    return int(context.getConf().get("spark.task.maxFailures", "4"))


def task_device(configured: str = "auto") -> str:
    """The torch device to use: the configured one; for auto in a Spark task its own GPU's address, or cpu.

    Outside a task, where models are trained on the driver, auto is the machine's GPU, if it has one.
    """
    if configured != "auto":
        return configured
    context = TaskContext.get()
    if context is None:
        import torch

        return "cuda" if torch.cuda.is_available() else "cpu"
    gpu = context.resources().get("gpu")
    return f"cuda:{gpu.addresses[0]}" if gpu else "cpu"
