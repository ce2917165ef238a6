"""What ranks say is shown while they work, line by line, once."""

import io
import time
from contextlib import redirect_stdout

from akt_spark.training import progress


def test_lines_are_shown_as_they_come_and_only_once(tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "POLL_SECONDS", 0.01)
    log = str(tmp_path / "run" / "progress.log")
    output = io.StringIO()  # not capsys, which loses what another thread prints while it is read
    with redirect_stdout(output), progress.shown(log):
        for line in ("akt_rec, epoch 1", "base, epoch 1"):
            progress.say(log, line)
            deadline = time.monotonic() + 30
            while line not in output.getvalue() and time.monotonic() < deadline:
                time.sleep(0.01)
            assert line in output.getvalue()
        progress.say(log, "the end")
    assert output.getvalue() == "akt_rec, epoch 1\nbase, epoch 1\nthe end\n"


def test_lines_of_an_earlier_run_are_not_shown(tmp_path, capsys):
    log = str(tmp_path / "progress.log")
    progress.say(log, "yesterday")
    with progress.shown(log):
        pass
    assert capsys.readouterr().out == ""
