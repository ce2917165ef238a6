"""Running jobs as a user would, from the repository, and what a night leaves behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent.parent
DS = "2024-01-20"
VARIANTS = ("akt_rec", "base")
QUICK_JVM = "-XX:TieredStopAtLevel=1"  # for runs of a minute the first compiler is the faster one


@dataclass(frozen=True)
class Night:
    """A finished night of the shop."""

    folder: Path
    output: str

    @property
    def shop(self) -> Path:
        return self.folder / "shop"

    @property
    def config(self) -> Path:
        return self.folder / "night.yaml"

    @property
    def lake(self) -> Path:
        return self.folder / "lake"

    @property
    def report(self) -> Path:
        return self.folder / "report"


def environment() -> dict[str, str]:
    """The environment of a shell with the virtual environment active, without this process's own Spark."""
    tools = Path(sys.executable).parent
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("PYSPARK_", "SPARK_"))}
    path = f"{tools}{os.pathsep}{os.environ['PATH']}"
    return inherited | {"PATH": path, "SPARK_LOCAL_IP": "127.0.0.1", "SPARK_SUBMIT_OPTS": QUICK_JVM}


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """Runs a command of this environment in the repository and waits for it."""
    program = str(Path(sys.executable).parent / command[0])
    return subprocess.run(
        [program, *command[1:]], cwd=REPOSITORY, env=environment(), capture_output=True, text=True, check=False
    )


def submit(*arguments: str) -> subprocess.CompletedProcess[str]:
    """``spark-submit`` with arguments."""
    return run("spark-submit", *arguments)


def run_until_killed(arguments: list[str], at: str) -> None:
    """Starts a job and kills it and all its processes when it prints a text."""
    with subprocess.Popen(
        [sys.executable, *arguments],
        cwd=REPOSITORY,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        output = []
        for line in process.stdout:
            output.append(line)
            if at in line:
                os.killpg(process.pid, signal.SIGKILL)
                return
    raise AssertionError(f"the job ended without printing '{at}':\n{''.join(output)}")
