"""The race of petastorm's thread pool, made certain: the ventilator finishes between the two tests of the pool."""

import threading
import time
from pathlib import Path

import pytest
from petastorm import make_batch_reader
from petastorm.workers_pool.thread_pool import ThreadPool
from petastorm.workers_pool.ventilator import ConcurrentVentilator

from akt_spark.errors import DataError
from akt_spark.training import petastorm_fix
from akt_spark.training.reader import _read_petastorm, batches
from training.conftest import write_blocks


@pytest.fixture
def slow_ventilator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Row groups are handed out while the reader waits for the answer of ``completed()``, never before it."""
    ventilate, completed = ConcurrentVentilator._ventilate, ConcurrentVentilator.completed
    asked = threading.Event()

    def ventilate_late(self: ConcurrentVentilator) -> None:
        asked.wait(timeout=1)
        ventilate(self)

    def completed_late(self: ConcurrentVentilator) -> bool:
        if threading.current_thread() is not self._ventilation_thread:
            asked.set()
            deadline = time.monotonic() + 1
            while not completed(self) and time.monotonic() < deadline:
                time.sleep(0.001)
        return completed(self)

    monkeypatch.setattr(ConcurrentVentilator, "_ventilate", ventilate_late)
    monkeypatch.setattr(ConcurrentVentilator, "completed", completed_late)


@pytest.fixture
def unfixed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(petastorm_fix, "apply", lambda: None)
    monkeypatch.setattr(ThreadPool, "all_workers_done", petastorm_fix._all_workers_done)


def rows_read(folder: Path) -> int:
    urls = [block.url for block in write_blocks(folder, [10, 10, 10])]
    return sum(len(row_group["label"]) for row_group in _read_petastorm(urls))


def test_petastorm_as_released_loses_rows_in_the_race(tmp_path, slow_ventilator, unfixed) -> None:
    assert rows_read(tmp_path) < 30


def test_with_the_fix_all_rows_arrive_in_the_same_race(tmp_path, slow_ventilator) -> None:
    assert rows_read(tmp_path) == 30


def test_lost_rows_are_an_error_should_the_fix_ever_fail(tmp_path, slow_ventilator, unfixed) -> None:
    blocks = write_blocks(tmp_path, [10, 10, 10])
    with pytest.raises(DataError, match="petastorm returned 0 rows"):
        list(batches(blocks, 5, seed=1, epoch=1, shuffle_blocks=2))


def test_applying_the_fix_twice_changes_nothing() -> None:
    petastorm_fix.apply()
    petastorm_fix.apply()
    assert ThreadPool.all_workers_done is petastorm_fix._all_row_groups_done


def test_a_reader_that_shuffles_rows_still_does(tmp_path) -> None:
    (block,) = write_blocks(tmp_path, [200])

    def ids(**options: object) -> list[str]:
        with make_batch_reader(
            [block.url], schema_fields=["sample_id"], workers_count=1, num_epochs=1, **options
        ) as rows:
            return [name for row_group in rows for name in row_group.sample_id]

    petastorm_fix.apply()
    in_order = ids(shuffle_row_groups=False)
    assert ids(shuffle_row_groups=False, shuffle_rows=True, seed=3) != in_order
    assert sorted(ids(shuffle_row_groups=False, shuffle_rows=True, seed=3)) == sorted(in_order)
