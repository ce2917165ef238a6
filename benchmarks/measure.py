"""What every benchmark shares: a child process with its time and peak memory, and the JSON that it is quoted from."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import psutil

SAMPLE_SECONDS = 0.25
SAMPLE_SHARE = 0.01  # of the time; to add up the pages of large processes takes a while, and holds them up


def child(
    command: Sequence[str],
    environment: Mapping[str, str] | None = None,
    python: str = sys.executable,
    cores: int | None = None,
) -> dict[str, object]:
    """Runs ``python command...``, on the first cores if so many are told; what it prints last is a JSON object.

    Returns:
        That object, ``seconds`` of the whole process and ``peak_gib``: the largest sum of the proportional set sizes of
        it and its children.
    """
    started, peak = time.monotonic(), 0
    allowed = sorted(os.sched_getaffinity(0))[:cores]
    process = subprocess.Popen(
        [python, *command],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **(environment or {})},
        preexec_fn=(lambda: os.sched_setaffinity(0, allowed)) if cores else None,
    )
    output: list[str] = []
    reader = threading.Thread(target=lambda: output.append(process.stdout.read()))
    reader.start()
    while process.poll() is None:
        before = time.monotonic()
        peak = max(peak, _proportional_set_size(process.pid))
        time.sleep(max(SAMPLE_SECONDS, (time.monotonic() - before) / SAMPLE_SHARE))
    reader.join()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    seconds = time.monotonic() - started
    return json.loads(output[0].strip().splitlines()[-1]) | {
        "seconds": round(seconds, 2),
        "peak_gib": round(peak / 2**30, 2),
    }


def environment(folder: Path, name: str, requirement: str) -> str:
    """A peer in an environment of its own, with the product's packages behind it; returns its Python."""
    home = folder / name
    python = str(home / "bin/python")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True)
    subprocess.run(["uv", "pip", "install", "--quiet", "--python", python, requirement], check=True)
    packages = [path for path in sys.path if path.endswith("site-packages")]
    (next(home.glob("lib/*/site-packages")) / "product.pth").write_text("\n".join(packages) + "\n")
    return python


def at_most(name: str, value: float, bound: float) -> dict[str, object]:
    """A claim: a value that must not be above a bound."""
    return {"name": name, "value": round(value, 4), "bar": f"<= {bound:g}", "holds": value <= bound}


def at_least(name: str, value: float, bound: float) -> dict[str, object]:
    """A claim: a value that must not be below a bound."""
    return {"name": name, "value": round(value, 4), "bar": f">= {bound:g}", "holds": value >= bound}


def write(out: str, what: str, packages: Sequence[str], rows: list[dict], bars: list[dict], note: str = "") -> None:
    """Writes the result and prints it."""
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    Path(out).write_text(json.dumps(result(what, packages, rows, bars, note), indent=1) + "\n")
    for line in (*rows, *bars):
        print(json.dumps(line))


def result(what: str, packages: Sequence[str], rows: list[dict], bars: list[dict], note: str = "") -> dict[str, object]:
    """Rows and claims, with the code, the machine and the versions that they come from."""
    return {
        "what": what,
        "note": note,
        "code": code(),
        "machine": {
            "cores": len(os.sched_getaffinity(0)),
            "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
            "system": platform.platform(),
        },
        "versions": {package: version(package) for package in packages},
        "rows": rows,
        "bars": bars,
    }


def parser(description: str) -> argparse.ArgumentParser:
    """The command line of a benchmark: ``--out FILE``."""
    options = argparse.ArgumentParser(description=description.splitlines()[0])
    options.add_argument("--out", required=True, help="JSON file to write")
    return options


def code() -> str:
    """The commit that was measured; with a plus where files differed from it."""
    git = ["git", "-C", str(Path(__file__).parent)]
    commit = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    status = subprocess.run([*git, "status", "--porcelain", "../akt_spark"], capture_output=True, text=True).stdout
    return commit + "+" * bool(status)


def _proportional_set_size(pid: int) -> int:
    total = 0
    try:
        root = psutil.Process(pid)
        processes = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    for process in processes:
        try:
            total += process.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return total
