"""Starts the ranks of a training as tasks of the Spark application, or inline in this process."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import partial
from typing import Any, Literal, TextIO

from pyspark import SparkContext
from pyspark.sql import SparkSession

from akt_spark.errors import AktError, ConfigError, DataError
from akt_spark.training.exchange import (
    GROUPS_WANTED,
    Communicator,
    HorovodCommunicator,
    InlineCommunicator,
    TorchCommunicator,
)

ERROR_MARK = "akt_spark-error:"
ERRORS = {error.exit_code: error for error in (AktError, ConfigError, DataError)}
KEPT_LINES = 100


def launch(
    spark: SparkSession,
    train_fn: Callable[..., Any],
    args: Sequence[Any],
    num_proc: int,
    backend: Literal["horovod", "torch", "inline"] = "horovod",
    groups: int = 1,
) -> list[Any]:
    """Calls ``train_fn(communicator, *args)`` on every rank and returns the results in rank order.

    Function and arguments are pickled, so pass configuration and file lists, not data. What ranks print appears here.

    Args:
        spark: the application whose task slots the ranks take.
        train_fn: an importable function.
        args: its arguments after the communicator.
        num_proc: ranks; with ``inline`` there is always one.
        backend: ``horovod``, ``torch`` (PySpark's TorchDistributor, with GPUs where Spark's tasks have them), or
            ``inline`` for debugging.
        groups: into how many groups ``train_fn`` will split the ranks.

    Raises:
        ConfigError: when Spark cannot run all ranks at once.
        AktError: what a rank raised, or that one died.
    """
    if backend == "inline":
        return [train_fn(InlineCommunicator(), *args)]
    _require_slots(spark, num_proc)
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    environment = GROUPS_WANTED if 1 < groups < num_proc else {}
    start = {"horovod": partial(_on_horovod, environment=environment), "torch": _on_torch}[backend]
    return start(train_fn, tuple(args), num_proc)


def _on_horovod(
    train_fn: Callable[..., Any], args: tuple[Any, ...], num_proc: int, environment: dict[str, str]
) -> list[Any]:
    import horovod.spark

    errors = _LastLines()
    try:
        with _horovod_manners():
            return horovod.spark.run(
                _rank_main,
                args=(HorovodCommunicator, train_fn, args),
                num_proc=num_proc,
                use_gloo=True,
                executable=os.environ["PYSPARK_PYTHON"],
                env=dict(environment),
                stdout=_Live(),
                stderr=errors,
                verbose=0,
            )
    except RuntimeError as error:
        raise errors.explain() from error


def _on_torch(train_fn: Callable[..., Any], args: tuple[Any, ...], num_proc: int) -> list[Any]:
    from pyspark.ml.torch.distributor import TorchDistributor

    errors = _LastLines()
    gpus = SparkContext.getOrCreate().getConf().get("spark.task.resource.gpu.amount")
    distributor = TorchDistributor(num_processes=num_proc, local_mode=False, use_gpu=gpus is not None)
    try:
        with redirect_stdout(_Both(sys.stdout, errors)):  # where it shows what ranks print
            return distributor.run(_torch_main, train_fn, args)
    except Exception as error:
        raise errors.explain() from error


def _torch_main(train_fn: Callable[..., Any], args: Sequence[Any]) -> list[Any]:
    """The results of all ranks, on every rank: the distributor brings back those of the first."""
    import torch.distributed as dist

    mine = _rank_main(TorchCommunicator, train_fn, args)
    results = [None] * dist.get_world_size()
    dist.all_gather_object(results, mine)
    dist.destroy_process_group()
    return results


def _rank_main(
    communicator_class: Callable[[], Communicator], train_fn: Callable[..., Any], args: Sequence[Any]
) -> Any:
    """What every rank runs, in a process of its own."""
    communicator = communicator_class()
    try:
        return train_fn(communicator, *args)
    except AktError as error:
        print(f"{ERROR_MARK}{json.dumps([error.exit_code, str(error)])}", file=sys.stderr, flush=True)
        raise


def _require_slots(spark: SparkSession, ranks: int) -> None:
    """Horovod waits ten minutes for slots that never come; say at once what is missing."""
    context, settings = spark.sparkContext, spark.sparkContext.getConf()
    for key in ("spark.speculation", "spark.dynamicAllocation.enabled"):
        if settings.get(key, "false") == "true":
            raise ConfigError(f"{key} is true, but every rank must keep its one task: set it to false for train_ranker")
    scheduler = context._jsc.sc()
    profile = scheduler.resourceProfileManager().defaultResourceProfile()
    slots = scheduler.maxNumConcurrentTasks(profile)
    if slots < ranks:
        raise ConfigError(
            f"training.ranks is {ranks}, but {context.master} has {slots} task slots: set training.ranks to at most "
            f"{slots}, or give Spark more cores (spark.master, or --num-executors and --executor-cores)"
        )


@contextmanager
def _horovod_manners() -> Iterator[None]:
    """Restores the signal handlers that Horovod replaces, and keeps the stack trace of its Spark thread to itself."""
    main_thread = threading.current_thread() is threading.main_thread()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)} if main_thread else {}
    report = threading.excepthook
    threading.excepthook = lambda args: None if "run_spark" in str(args.thread) else report(args)
    try:
        yield
    finally:
        threading.excepthook = report
        for number, handler in handlers.items():
            signal.signal(number, handler)


class _Live:
    """Shows what ranks print, without Horovod's ``[rank]<stdout>:`` before every line."""

    def write(self, text: str) -> None:
        sys.stdout.write(re.sub(r"^\[\d+\]<stdout>:", "", text, flags=re.MULTILINE))
        sys.stdout.flush()  # also into a pipe or a log

    def flush(self) -> None:
        sys.stdout.flush()


class _Both:
    """Shows what is written, but not what is meant for `_LastLines` alone."""

    def __init__(self, shown: TextIO, kept: _LastLines) -> None:
        self._shown, self._kept = shown, kept

    def write(self, text: str) -> None:
        self._kept.write(text)
        if ERROR_MARK not in text:
            self._shown.write(text)

    def flush(self) -> None:
        self._shown.flush()


class _LastLines:
    """Keeps the last lines of the ranks' error output for the case of a failure."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)

    def write(self, text: str) -> None:
        self._lines.extend(text.splitlines())

    def flush(self) -> None:
        """Nothing is buffered."""

    def explain(self) -> AktError:
        """The error that a rank raised, or a general one after showing the ranks' last words."""
        for line in self._lines:
            if ERROR_MARK in line:
                exit_code, message = json.loads(line.split(ERROR_MARK, 1)[1])
                return ERRORS[exit_code](message)
        print("\n".join(self._lines), file=sys.stderr)
        return AktError("a training rank failed; its last output is above. Finished epochs are kept: run the job again")
