"""The model processes of an executor, handed from one of Spark's Python workers to the next.

Spark gives tasks to its idle Python workers in turns, so with a model a worker a GPU would in time hold as many copies
of it as the executor has cores. Here an executor has as many as it runs embedding tasks at once, each loaded once.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from akt_spark.config import fingerprint
from akt_spark.content.model_process import ModelProcess, PackedSpec, end_server
from akt_spark.errors import EncoderError

LONGEST = 40  # of the path of a temporary folder: with what follows, a socket's path has 107 bytes at most


@contextmanager
def leased(spec: PackedSpec, device: str, stall_seconds: float, folder: Path | None = None) -> Iterator[ModelProcess]:
    """A model process that no other task uses meanwhile: one that is idle, or a new one.

    Args:
        spec: the encoder.
        device: the torch device it is loaded onto.
        stall_seconds: see `ModelProcess`.
        folder: where the processes of this executor are found; by default by the process that forks its workers.
    """
    folder, revision = folder or _folder(), fingerprint(spec.revision)[:12]
    _end_others(folder, revision)
    for number in count():
        place = folder / f"{revision}-{fingerprint(device)[:8]}-{number}"
        with place.with_suffix(".lock").open("w") as lock:  # a worker that dies gives it back
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            process = ModelProcess(spec, device, stall_seconds, place)
            try:
                yield process
            finally:
                process.release()
            return


def end_idle_models(folder: Path | None = None) -> None:
    """Ends the model processes of this executor that no task uses: they would stay in memory for a while."""
    _end_others(folder or _folder(), revision="")


def _end_others(folder: Path, revision: str) -> None:
    """Ends idle processes of other revisions."""
    for file in folder.glob("*.lock"):
        if file.name.startswith(f"{revision}-"):
            continue
        with file.open("w") as lock, suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            end_server(file.with_suffix(""))


def _folder() -> Path:
    """A folder of the executor's own: messages are pickled, so nobody else may write into it."""
    temporary = tempfile.gettempdir()
    short = temporary if len(temporary) <= LONGEST else "/tmp"  # resource managers nest theirs deeply
    folder = Path(short, f"akt-models-{os.getuid()}-{os.getppid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise EncoderError(f"{folder} belongs to, or is open to, another user: remove it")
    return folder
