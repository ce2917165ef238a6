"""A night on a standalone Spark cluster: a master and two workers of one core each, all on this machine."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import deltalake
import pandas as pd
import pyspark
import pytest
from jobs_night import DS, Night, environment, submit

pytestmark = pytest.mark.night

SPARK_HOME = Path(pyspark.__file__).parent
PATIENCE = 60  # seconds


@pytest.fixture
def master(tmp_path: Path) -> Iterator[str]:
    """Address of the master; the workers' folders are ``tmp_path``/worker1 and 2."""
    with ExitStack() as daemons:
        log = _start(daemons, tmp_path / "master.log", "master.Master")
        address = _wait_for(log, r"Starting Spark master at (spark://\S+)")[0]
        for name in ("worker1", "worker2"):
            size = ("--cores", "1", "--memory", "2g", "--work-dir", str(tmp_path / name))
            _start(daemons, tmp_path / f"{name}.log", "worker.Worker", *size, address)
        _wait_for(log, r"Registering worker", count=2)
        yield address


def _start(daemons: ExitStack, log: Path, main: str, *arguments: str) -> Path:
    """Starts one of Spark's daemons until the fixture ends; returns its log."""
    program = [str(SPARK_HOME / "bin/spark-class"), f"org.apache.spark.deploy.{main}"]
    options = ["--host", "127.0.0.1", "--port", "0", "--webui-port", "0"]
    output = daemons.enter_context(log.open("w"))
    process = subprocess.Popen(
        [*program, *options, *arguments],
        # without a configuration folder Spark logs at the level that tells when a daemon is ready
        env=environment() | {"SPARK_HOME": str(SPARK_HOME), "SPARK_CONF_DIR": str(log.parent)},
        stdout=output,
        stderr=subprocess.STDOUT,
    )
    daemons.callback(process.wait)
    daemons.callback(process.terminate)
    return log


def _wait_for(log: Path, pattern: str, count: int = 1) -> list[str]:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        found = re.findall(pattern, log.read_text())
        if len(found) >= count:
            return found
        time.sleep(0.2)
    raise AssertionError(f"no '{pattern}' in {PATIENCE} s:\n{log.read_text()}")


def test_a_night_on_a_cluster_gives_what_a_local_one_gives(night: Night, master: str, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    executors = ("spark.executor.cores=1", "spark.executor.memory=1500m")
    cluster = ("--master", master, *[word for setting in executors for word in ("--conf", setting)])
    folders = ("--set", f"lake.root={lake}", "--set", f"report.path={tmp_path / 'report'}")
    done = submit(*cluster, "jobs/nightly.py", "--conf-file", str(night.config), "--ds", DS, *folders)

    assert done.returncode == 0, done.stdout + done.stderr
    assert all(list((tmp_path / worker).glob("app-*/*/stderr")) for worker in ("worker1", "worker2"))
    for table, key in (
        ("features.item_activity", ["item_id", "ds"]),
        ("features.user_sequences", ["user_id"]),
        ("training.samples", ["sample_id"]),
    ):
        local, found = (_rows(root, table).sort_values(key, ignore_index=True) for root in (night.lake, lake))
        pd.testing.assert_frame_equal(found, local)
    local, found = (len(_rows(root, "serving.predictions")) for root in (night.lake, lake))
    assert local == found


def _rows(lake: Path, table: str) -> pd.DataFrame:
    return deltalake.DeltaTable(str(lake.joinpath(*table.split(".")))).to_pandas()
