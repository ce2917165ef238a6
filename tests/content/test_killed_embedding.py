"""An embedding job killed with SIGKILL in the middle of a wave, and run again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from akt_spark.content.items import embed_catalogue
from content.conftest import write_items
from content.fakes import FakeSpec

ITEMS, WAVE = 60, 15
SCRIPT = """
import sys
from akt_spark.config import SparkConfig
from akt_spark.content.items import embed_catalogue
from akt_spark.lake import Lake
from akt_spark.session import spark_session
from akt_spark.stage import Context
from content.conftest import DS, small_config
from content.fakes import FakeSpec

root, folder = sys.argv[1:]
spark = spark_session(SparkConfig(settings={"spark.ui.enabled": "false", "spark.driver.host": "127.0.0.1"}), "to kill")
config = small_config(root, "encoder.commit_rows=15", "encoder.batch_size=2")
embed_catalogue(Context(spark, Lake(spark, root), config, DS, "run"), FakeSpec(folder, "fake-kill", seconds_a_row=0.2))
"""


@pytest.mark.night
def test_a_kill_loses_at_most_a_wave_and_a_rerun_embeds_only_the_rest(lake, configured, tmp_path):
    write_items(lake, {f"i{n:02d}": f"title {n}" for n in range(ITEMS)})
    spec = FakeSpec(str(tmp_path), "fake-kill")
    commits = Path(lake.root, "content", "item_embeddings", "_delta_log")
    job = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, lake.root, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, sys.path)])},
        start_new_session=True,
    )

    def waves() -> int:
        return len(list(commits.glob("*.json"))) - 1  # the first creates the table

    wait_until(lambda: waves() >= 2, job)
    done = len(spec.notes("encoded"))
    wait_until(lambda: len(spec.notes("encoded")) > done, job)  # in the middle of the next wave
    processes = psutil.Process(job.pid).children(recursive=True)
    os.kill(job.pid, signal.SIGKILL)  # the driver alone: all others have to notice
    job.wait()
    _, left = psutil.wait_procs(processes, timeout=60)
    assert not left, left
    committed = {row["item_id"] for row in lake.read("content.item_embeddings").collect()}
    assert ITEMS / 4 < len(committed) < ITEMS

    report = embed_catalogue(configured(f"encoder.commit_rows={WAVE}"), spec)
    assert report.rows == ITEMS - len(committed)
    assert lake.read("content.item_embeddings").count() == ITEMS
    times = Counter(text.split(". ")[0].removeprefix("Title: title ") for text in spec.notes("encoded"))
    assert len(times) == ITEMS
    assert {times[str(int(item[1:]))] for item in committed} == {1}
    assert sum(times.values()) - ITEMS <= 2 * WAVE  # waves are drawn by hash: not all of one size


def wait_until(condition: Callable[[], bool], job: subprocess.Popen) -> None:
    """Waits up to two minutes."""
    deadline = time.monotonic() + 120
    while not condition():
        assert job.poll() is None, "the job ended"
        assert time.monotonic() < deadline
        time.sleep(0.1)
