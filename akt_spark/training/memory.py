"""Peak memory of a training: its process trains several, so the peak is forgotten before each."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def forget_peak() -> None:
    """The peak is what is resident now; where the system forbids it, that of the process so far stays."""
    with suppress(OSError):
        CLEAR.write_text("5")  # proc(5): resets VmHWM


def peak_gib() -> float:
    """The most memory (GiB) that was resident in this process since its start or `forget_peak`.

    Not `getrusage`: a process starts with the peak there of the one that it was before exec.
    """
    (kib,) = re.findall(r"^VmHWM:\s+(\d+) kB$", STATUS.read_text(), flags=re.MULTILINE)
    return int(kib) / 2**20
