"""Embedding on a cluster of two executors that have a GPU each, as a discovery script says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import json, sys, time
from functools import partial
from akt_spark.config import SparkConfig
from akt_spark.content.items import embed_catalogue
from akt_spark.lake import Lake
from akt_spark.session import spark_session
from akt_spark.stage import Context
from content.conftest import DS, small_config, write_items
from content.fakes import FakeSpec

folder, discovery = sys.argv[1:]
gpu = {f"spark.{who}.resource.gpu.{key}": value for who in ("worker", "executor")
       for key, value in (("amount", "1"), ("discoveryScript", discovery))}
settings = {"spark.ui.enabled": "false", "spark.driver.host": "127.0.0.1", "spark.executor.memory": "512m",
            "spark.executor.cores": "2", "spark.dynamicAllocation.enabled": "false"}
spark = spark_session(SparkConfig(master="local-cluster[2,2,1024]", settings=settings | gpu), "gpus")

def at_work(batches, seconds):
    started = time.time()
    for batch in batches:
        time.sleep(seconds)
        frame = batch.to_pandas()
        yield batch.from_pandas(frame.assign(started=started, ended=time.time()))

def together():
    work = partial(at_work, seconds=2.0)
    rows = spark.range(0, 4, 1, 4).mapInArrow(work, "id LONG, started DOUBLE, ended DOUBLE").collect()
    return max(sum(other.started <= row.started < other.ended for other in rows) for row in rows)

together()  # starts the workers
before = together()
lake = Lake(spark, folder + "/lake")
write_items(lake, {f"i{n:02d}": f"title {n}" for n in range(40)})
config = small_config(lake.root, "encoder.gpus_per_task=1", "encoder.batch_size=2")
spec = FakeSpec(folder, "fake-gpu", seconds_a_row=0.1)
report = embed_catalogue(Context(spark, lake, config, DS, "run"), spec)
print(json.dumps({"cpu": [before, together()], "rows": report.rows, "notes": report.notes}))
spark.stop()
"""


@pytest.mark.night
def test_embedding_tasks_get_their_gpu_and_other_stages_keep_all_cores(tmp_path):
    discovery = tmp_path / "gpus.sh"
    discovery.write_text("""#!/bin/sh\necho '{"name": "gpu", "addresses": ["7"]}'\n""")
    discovery.chmod(0o755)
    tests = str(Path(__file__).parents[1])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([tests, *filter(None, sys.path)])}
    command = [sys.executable, "-c", SCRIPT, str(tmp_path), str(discovery)]
    job = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert job.returncode == 0, job.stderr[-5000:]
    found = json.loads(job.stdout.strip().splitlines()[-1])
    assert found["cpu"] == [4, 4]  # two executors of two cores, before and after
    assert found["rows"] == 40
    loads = (tmp_path / "loads").read_text().splitlines()
    assert {line.split()[1] for line in loads} == {"cuda:7"}
    assert len(loads) == 2, loads  # a GPU a task: one at a time on each executor, though it has two cores
    assert "(2 workers)" in found["notes"][2]
