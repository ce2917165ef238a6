"""Ranks as Spark tasks."""

import signal
import sys

import cloudpickle
import pytest

from akt_spark.errors import ConfigError, DataError
from akt_spark.training.launch import _LastLines, _Live, launch


def test_inline_calls_the_function_here(spark) -> None:
    assert launch(spark, lambda communicator, x: (communicator.world, x), (5,), num_proc=2, backend="inline") == [
        (1, 5)
    ]


def test_too_few_slots_name_the_key_and_the_slots(spark) -> None:
    with pytest.raises(ConfigError, match=r"training.ranks is 3, but local\[2\] has 2 task slots"):
        launch(spark, print, (), num_proc=3)


def test_dynamic_allocation_and_speculation_are_refused(spark, monkeypatch) -> None:
    class Settings(dict):
        pass

    for key in ("spark.speculation", "spark.dynamicAllocation.enabled"):
        monkeypatch.setattr(type(spark.sparkContext), "getConf", lambda _, key=key: Settings({key: "true"}))
        with pytest.raises(ConfigError, match=key):
            launch(spark, print, (), num_proc=1)


def test_output_of_ranks_is_shown_without_horovods_prefix(capsys) -> None:
    stream = _Live()
    stream.write("[0]<stdout>:akt_rec, epoch 1\n[1]<stdout>:[x]\n")
    assert capsys.readouterr().out == "akt_rec, epoch 1\n[x]\n"


@pytest.mark.night
def test_error_of_a_rank_is_raised_on_the_driver(spark, capfd) -> None:
    def fail(communicator) -> None:
        from akt_spark.errors import DataError

        if communicator.rank == 1:
            raise DataError("a file\nhas 3 rows")
        communicator.gather(__import__("torch").ones(1))

    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(DataError, match="a file\nhas 3 rows"):
        launch(spark, fail, (), num_proc=2)
    assert signal.getsignal(signal.SIGINT) is handler
    assert "Py4JJavaError" not in capfd.readouterr().err


def test_unknown_failures_show_the_last_output(capsys) -> None:
    lines = _LastLines()
    lines.write("[1]<stderr>:Traceback\n[1]<stderr>:ValueError: boom\n")
    assert "run the job again" in str(lines.explain())
    assert "ValueError: boom" in capsys.readouterr().err


cloudpickle.register_pickle_by_value(sys.modules[__name__])  # ranks cannot import the tests
