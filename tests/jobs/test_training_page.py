"""The command of docs/training.md, by spark-submit, on the lake of a night; and ranks that are killed under way."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import deltalake
import psutil
import pytest
import readme
from jobs_night import DS, REPOSITORY, environment, run

PAGE = "docs/training.md"
KILLS = 3


def rank_processes(job: subprocess.Popen) -> list[psutil.Process]:
    try:
        processes = psutil.Process(job.pid).children(recursive=True)
        return [process for process in processes if "horovod.spark.task.gloo_exec_fn" in process.cmdline()]
    except psutil.Error:
        return []


@pytest.mark.night
def test_the_page_s_command_trains_on_and_ranks_that_die_cost_only_time(night, tmp_path):
    words = readme.command("spark-submit jobs/train_ranker.py", {"--conf-file": str(night.config), "--ds": DS}, PAGE)
    settings = ("training.checkpoint_steps=3", "training.seeds=[5]", "training.batch_size=64")
    words += [word for setting in settings for word in ("--set", setting)]

    def lake(name: str) -> Path:
        shutil.copytree(night.lake, tmp_path / name)
        return tmp_path / name

    def rankers(lake: Path) -> dict[str, bytes]:
        rows = deltalake.DeltaTable(str(lake / "training/checkpoints")).to_pandas()
        return {
            row.variant: Path(row.path, "model.safetensors").read_bytes() for row in rows[rows.seed == 5].itertuples()
        }

    quiet = lake("quiet")
    done = run(*words, "--set", f"lake.root={quiet}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "goes on after" not in done.stdout

    disturbed = lake("disturbed")
    command = [str(Path(sys.executable).parent / words[0]), *words[1:], "--set", f"lake.root={disturbed}"]
    for kill in range(KILLS):
        with (tmp_path / f"output {kill}").open("w") as output:
            job = subprocess.Popen(command, cwd=REPOSITORY, env=environment(), stdout=output, stderr=output)
            before = set(disturbed.rglob("step-*/progress.json"))
            while job.poll() is None and not set(disturbed.rglob("step-*/progress.json")) - before:
                time.sleep(0.05)
            ranks = rank_processes(job)
            assert ranks, (tmp_path / f"output {kill}").read_text()
            ranks[kill % len(ranks)].kill()
            assert job.wait() == 1
        assert "a training rank failed" in (tmp_path / f"output {kill}").read_text()
    done = run(*command, "--set", f"lake.root={disturbed}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "goes on after" in done.stdout
    assert rankers(disturbed) == rankers(quiet)
