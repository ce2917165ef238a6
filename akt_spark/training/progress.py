"""Progress lines of the ranks, shown on the driver while they work.

Horovod hands over what a rank prints only in blocks of 64 KB, so rank 0 appends its lines to a file beside the rankers,
and the driver prints what is added to it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

POLL_SECONDS = 0.5


def say(log: str, line: str) -> None:
    """Appends one line to the file ``log``."""
    with Path(log).open("a", encoding="utf-8") as file:
        file.write(line + "\n")


@contextmanager
def shown(log: str) -> Iterator[None]:
    """Prints the lines that are added to ``log``, an empty file at first, until the block ends."""
    path, ended = Path(log), threading.Event()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")
    follower = threading.Thread(target=_follow, args=(path, ended), daemon=True)
    follower.start()
    try:
        yield
    finally:
        ended.set()
        follower.join()


def _follow(path: Path, ended: threading.Event) -> None:
    seen = 0
    while True:
        last_look = ended.wait(POLL_SECONDS)
        *lines, _ = path.read_text(encoding="utf-8").split("\n")  # what follows the last line end is not whole yet
        for line in lines[seen:]:
            print(line, flush=True)
        seen = len(lines)
        if last_look:
            return
