"""An encoder in a process of its own: a row may end it, but not the job."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from pyspark import cloudpickle

from akt_spark.content.encoders import EncoderSpec
from akt_spark.content.encoding import Part, Rows
from akt_spark.content.model_messages import Answer, Begun, Encode, Finished, Load, Refused
from akt_spark.content.results import EncodedRows
from akt_spark.content.throughput import Work
from akt_spark.errors import EncoderError

MAX_DEATHS = 100  # in one call: about a dozen rows that end the process; each death costs a load
DYING_SECONDS = 5.0  # from the end of the connection to that of the process, whose exit code tells more than ours
IDLE_SECONDS = 60.0  # as long as Spark keeps an idle worker
NAMED = 5  # rows named in an error


@dataclass(frozen=True)
class PackedSpec:
    """An `EncoderSpec` that travels to workers which do not unpack it."""

    revision: str
    dim: int
    data: bytes

    @classmethod
    def of(cls, spec: EncoderSpec) -> PackedSpec:
        """Pickles it."""
        return cls(spec.revision, spec.dim, cloudpickle.dumps(spec))


class ModelProcess:
    """The process at one place of an executor: uses the one that runs there, starts it, and starts it again."""

    def __init__(
        self, spec: PackedSpec, device: str, stall_seconds: float, place: Path, idle_seconds: float = IDLE_SECONDS
    ) -> None:
        """Starts nothing yet.

        Args:
            spec: the encoder.
            device: the torch device it is loaded onto.
            stall_seconds: a load, or the time from one finished batch to the next, takes at most so long.
            place: path of the Unix socket that the process listens on.
            idle_seconds: it ends when nobody uses it for so long.
        """
        self.spec, self.device, self.stall_seconds = spec, device, stall_seconds
        self.place, self.idle_seconds = place, idle_seconds
        self._process: subprocess.Popen | None = None  # None also where another worker has started it
        self._connection: Connection | None = None

    def encode(self, rows: Rows, names: Sequence[str], batch_size: int, batch_tokens: int) -> tuple[EncodedRows, Work]:
        """Encodes N rows. Those that end the process are found by bisection and get an error.

        Args:
            rows: the rows.
            names: what an error calls them.
            batch_size: rows of a batch at most.
            batch_tokens: tokens of a batch at most, padding included.

        Raises:
            EncoderError: when the encoder cannot be loaded, or nothing was finished for ``stall_seconds``.
        """
        result, work = EncodedRows.empty(len(rows), self.spec.dim), Work(rows=len(rows))
        todo = [np.arange(len(rows))]  # a stack
        while todo:
            group = todo.pop()
            if work.deaths >= MAX_DEATHS:
                result.fail(group, f"not tried: rows before it ended the encoder's process {MAX_DEATHS} times")
                continue
            request = Encode(rows.take(group), batch_size, batch_tokens)
            left, suspects = self._attempt(request, group, names, result, work)
            if not len(left):
                continue
            work.deaths += 1
            inherited = self._process is None  # earlier tasks may have left it in a bad state
            how = self._bury()
            todo.append(np.setdiff1d(left, suspects))
            if len(suspects) == 1 and inherited:
                todo.append(suspects)
            elif len(suspects) == 1:
                result.fail(suspects, f"the encoder's process {how} at this row")
            else:
                todo += reversed(np.array_split(suspects, 2))
            todo = [waiting for waiting in todo if len(waiting)]
        return result, work

    def release(self) -> None:
        """Leaves the process to the next task."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def close(self) -> None:
        """Ends the process."""
        self._bury(wait=0)

    def _attempt(
        self, request: Encode, places: np.ndarray, names: Sequence[str], result: EncodedRows, work: Work
    ) -> tuple[np.ndarray, np.ndarray]:
        """Sends rows and takes the answers in.

        Returns:
            Rows that have no answer because the process ended, and those of them that it had begun.
        """
        self._start(work)
        answered, begun = set(), {}  # dict: in the order of batches
        with contextlib.suppress(EOFError, OSError):
            self._connection.send(request)
            deadline = time.monotonic() + self.stall_seconds
            while not isinstance(answer := self._receive(deadline, [names[i] for i in begun]), Finished):
                rows = places[answer.rows]
                if isinstance(answer, Begun):
                    begun |= dict.fromkeys(rows.tolist())
                    continue
                _take_in(answer, rows, result, work)
                answered |= set(rows.tolist())
                begun = {row: None for row in begun if row not in answered}
                deadline = time.monotonic() + self.stall_seconds
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
        left = np.array([row for row in places.tolist() if row not in answered], dtype=np.int64)
        return left, np.array(list(begun), dtype=np.int64) if begun else left

    def _start(self, work: Work) -> None:
        """Connects to the process that runs, or starts one and waits until it has loaded the encoder."""
        if self._connection is not None:
            return
        started = time.monotonic()
        for running in (_connect(self.place), None):
            try:
                self._connection = running or self._launch(started)
                self._connection.send(Load(self.spec.data, self.device))
                answer = self._receive(started + self.stall_seconds, [])
                break
            except (EOFError, OSError):
                how = self._bury()
                if running is None:
                    raise EncoderError(
                        f"the process that was to load {self.spec.revision} on {self.device} {how}; its output is in "
                        "the executor's log. Is there memory enough for a model a task?"
                    ) from None
        if isinstance(answer, Refused):
            self._bury(wait=0)
            reason = " ".join(answer.reason.split())
            raise EncoderError(f"{self.spec.revision} cannot be loaded on {self.device}: {reason}")
        if running is None:
            work.loads += 1
            work.load_seconds += time.monotonic() - started

    def _launch(self, started: float) -> Connection:
        self.place.unlink(missing_ok=True)
        owner = str(os.getppid())  # forks the workers, and ends with the executor
        self._process = subprocess.Popen(
            [sys.executable, "-m", "akt_spark.content.model_server", str(self.place), owner, str(self.idle_seconds)],
            stdin=subprocess.DEVNULL,
            stdout=2,  # Spark may read a worker's stdout
            env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
        while (connection := _connect(self.place)) is None:
            if self._process.poll() is not None or time.monotonic() > started + self.stall_seconds:
                raise EOFError
            time.sleep(0.02)
        return connection

    def _receive(self, deadline: float, in_flight: Sequence[str]) -> Answer:
        if not self._connection.poll(max(deadline - time.monotonic(), 0)):
            self._bury(wait=0)
            names = ", ".join(in_flight[:NAMED]) + (f" and {len(in_flight) - NAMED} more" * (len(in_flight) > NAMED))
            doing = f"has finished no batch; rows in flight: {names}" if names else "has not loaded, or looked at a row"
            raise EncoderError(
                f"{self.spec.revision} on {self.device} {doing}, for {self.stall_seconds:g} s: look at these rows "
                "and at the device, or raise encoder.stall_seconds"
            )
        return self._connection.recv()

    def _bury(self, wait: float = DYING_SECONDS) -> str:
        """Ends the process, unless it ends by itself within ``wait`` seconds, and says how it ended."""
        self.release()
        process, self._process = self._process, None
        if process is None:
            end_server(self.place)
            return "ended"
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(wait)
        process.kill()
        code = process.wait()
        if code < 0:
            return f"was ended by signal {-code} ({signal.Signals(-code).name})"
        return f"ended with exit code {code}"


def end_server(place: Path) -> None:
    """Ends the process that listens at a place, whoever started it."""
    with socket.socket(socket.AF_UNIX) as client, contextlib.suppress(OSError):
        client.connect(str(place))
        pid, _, _ = struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        os.kill(pid, signal.SIGKILL)
    place.unlink(missing_ok=True)


def _connect(place: Path) -> Connection | None:
    """A connection to the process that listens at a place; None where there is none."""
    client = socket.socket(socket.AF_UNIX)
    try:
        client.connect(str(place))
    except OSError:
        client.close()
        return None
    return Connection(client.detach())


def _take_in(part: Part, rows: np.ndarray, result: EncodedRows, work: Work) -> None:
    if part.encoded is None:
        result.fail(rows, part.error)
    else:
        result.put(rows, part.encoded)
    work.tokens += part.tokens
    work.padded_tokens += part.padded_tokens
    work.model_seconds += part.seconds
