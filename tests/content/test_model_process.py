"""The encoder in a process of its own: rows that end it, loads, stalls."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from akt_spark.content.encoding import Rows
from akt_spark.content.model_pool import end_idle_models, leased
from akt_spark.content.model_process import ModelProcess, PackedSpec
from akt_spark.content.results import EncodedRows
from akt_spark.content.throughput import Work
from akt_spark.errors import EncoderError
from content.fakes import FakeSpec


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short path, as those of executors have: that of a socket has 107 bytes at most."""
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        yield Path(short)


@pytest.fixture
def process(spec, folder) -> Iterator[ModelProcess]:
    started = ModelProcess(PackedSpec.of(spec), "cpu", 60, folder / "socket")
    yield started
    started.close()


def encode(process: ModelProcess, texts: list[str], batch_size: int = 4) -> tuple[EncodedRows, Work]:
    names = [f"item {n}" for n in range(len(texts))]
    return process.encode(Rows(texts, [None] * len(texts)), names, batch_size, batch_tokens=1000)


def test_vectors_are_those_of_the_encoder_and_one_load_serves_all_calls(process, spec):
    texts = [f"text {n}" for n in range(10)]
    for _ in range(3):
        result, work = encode(process, texts)
    np.testing.assert_array_equal(result.vectors, spec.load("here").encode(texts, [None] * 10).vectors)
    (load, here) = spec.notes("loads")
    assert load.split()[0] != here.split()[0] == str(os.getpid())
    assert (work.rows, work.tokens, work.padded_tokens, work.loads, work.deaths) == (10, 20, 20, 0, 0)
    assert 0 < work.model_seconds


def test_rows_that_end_the_process_are_found_and_get_an_error_and_all_others_their_vectors(process, spec):
    texts = [f"text {n}" for n in range(12)]
    for place in (3, 9):
        texts[place] = f"deadly {place}"
    result, work = encode(process, texts, batch_size=2)
    assert {n for n, error in enumerate(result.errors) if error} == {3, 9}
    assert result.errors[3] == "the encoder's process ended with exit code 9 at this row"
    fine = [n for n in range(12) if n not in (3, 9)]
    expected = spec.load("here").encode([texts[n] for n in fine], [None] * len(fine)).vectors
    np.testing.assert_array_equal(result.vectors[fine], expected)
    assert work.loads == work.deaths + 1
    assert sorted(spec.notes("encoded")[: len(fine)]) == sorted(texts[n] for n in fine)  # each of them once


def test_rows_that_always_end_the_process_do_not_take_for_ever(process, monkeypatch):
    monkeypatch.setattr("akt_spark.content.model_process.MAX_DEATHS", 3)
    result, work = encode(process, ["deadly"] * 50)
    assert work.deaths == 3
    assert all(result.errors)
    assert "not tried: rows before it ended the encoder's process 3 times" in result.errors


def test_a_stall_ends_with_the_rows_in_flight_and_without_the_process(process):
    encode(process, ["warm"])
    child = psutil.Process(process._process.pid)
    process.stall_seconds, started = 1.0, time.monotonic()
    with pytest.raises(EncoderError, match=r"no batch; rows in flight: item 1, item 2, .* for 1 s: .*stall_seconds"):
        encode(process, ["a", "sleepy b", "c d", "e f g"], batch_size=1)
    assert time.monotonic() - started < 10
    assert not child.is_running()


@dataclass(frozen=True)
class Unloadable(FakeSpec):
    """Cannot be loaded."""

    how: Callable[[], None] = lambda: None

    def load(self, device: str) -> None:
        """Fails in one way or another."""
        self.how()
        raise ValueError("no such weights")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (lambda: None, r"cannot be loaded on cpu: ValueError: no such weights"),
        (lambda: os._exit(3), r"the process that was to load fake-1 on cpu ended with exit code 3"),
        (lambda: os.kill(os.getpid(), 9), r"was ended by signal 9 \(SIGKILL\).* memory enough"),
    ],
)
def test_a_model_that_cannot_be_loaded_is_an_error_of_the_job(tmp_path, how, message, folder):
    process = ModelProcess(PackedSpec.of(Unloadable(str(tmp_path), how=how)), "cpu", 60, folder / "socket")
    with pytest.raises(EncoderError, match=message):
        encode(process, ["a"])


def test_the_next_task_finds_the_process_and_its_model(process, spec, folder):
    encode(process, ["warm"])
    process.release()
    following = ModelProcess(PackedSpec.of(spec), "cpu", 60, folder / "socket")
    result, work = encode(following, ["one", "deadly", "two"], batch_size=1)  # it alone ends what others started
    assert work.loads == len(spec.notes("loads")) - 1
    assert result.errors == [None, "the encoder's process ended with exit code 9 at this row", None]
    following.close()


def test_a_process_that_nobody_uses_ends(spec, folder):
    process = ModelProcess(PackedSpec.of(spec), "cpu", 60, folder / "socket", idle_seconds=0.1)
    encode(process, ["warm"])
    child = psutil.Process(process._process.pid)
    process.release()
    assert child.wait(timeout=10) == 0
    assert encode(process, ["again"])[0].errors == [None]  # with a new one
    process.close()


def test_the_process_ends_with_its_owner(folder):
    owner = subprocess.Popen(["sleep", "60"])
    command = [sys.executable, "-m", "akt_spark.content.model_server", str(folder / "socket"), str(owner.pid), "60"]
    with subprocess.Popen(command) as server:
        while not (folder / "socket").exists():
            assert server.poll() is None
            time.sleep(0.05)
        owner.kill()
        owner.wait()
        assert server.wait(timeout=10) == 0


def test_sockets_fit_where_the_temporary_folder_is_deep(spec, tmp_path, monkeypatch):
    deep = tmp_path / ("container" * 12)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    with leased(PackedSpec.of(spec), "cpu", 60) as process:
        assert encode(process, ["row"])[1].loads == 1
    end_idle_models()


def test_tasks_at_once_have_a_process_each_and_later_ones_find_these(spec, folder):
    packed = PackedSpec.of(spec)

    def task(work: list[Work]) -> AbstractContextManager[ModelProcess]:
        lease = leased(packed, "cpu", 60, folder)
        process = lease.__enter__()
        work.append(encode(process, ["row"])[1])
        return lease

    work: list[Work] = []
    for _ in range(2):
        first, second = task(work), task(work)
        for lease in (first, second):
            lease.__exit__(None, None, None)
    assert [done.loads for done in work] == [1, 1, 0, 0]
    processes = [psutil.Process(int(line.split()[0])) for line in spec.notes("loads")]
    other = PackedSpec.of(replace(spec, revision="other"))
    with leased(other, "cpu", 60, folder):  # makes room for itself
        gone, left = psutil.wait_procs(processes, timeout=10)
    assert len(gone) == 2
    assert not left
