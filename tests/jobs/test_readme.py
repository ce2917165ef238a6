"""What the README tells people to type exists; that its shop night works is in `test_nightly`."""

import shlex
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
import readme
from jobs_night import REPOSITORY

from akt_spark.conf_file import load
from akt_spark.pipeline import STAGES

COMMANDS = readme.commands()


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("make")])
def test_make_targets_exist(command):
    dry = subprocess.run([*shlex.split(command), "--dry-run"], cwd=REPOSITORY, capture_output=True, check=False)
    assert dry.returncode == 0, dry.stderr


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("spark-submit")])
def test_jobs_their_configurations_and_overrides_exist(command):
    words = shlex.split(command)
    job = next(word for word in words if word.startswith("jobs/"))
    assert Path(job).stem in {"nightly", *(stage.name for stage in STAGES)}
    assert (REPOSITORY / job).is_file()
    overrides = [value for flag, value in pairwise(words) if flag == "--set"]
    load(REPOSITORY / words[words.index("--conf-file") + 1], overrides)


def test_nothing_else_is_told_to_be_typed():
    known = ("make ", "spark-submit ", "python -m akt_spark.", "source .venv/bin/activate")
    assert [command for command in COMMANDS if not command.startswith(known)] == []
