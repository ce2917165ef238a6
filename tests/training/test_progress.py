"""What ranks say is shown while they work, line by line, once."""

import time

from akt_spark.training import progress


def test_lines_are_shown_as_they_come_and_only_once(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(progress, "POLL_SECONDS", 0.01)
    log = str(tmp_path / "run" / "progress.log")
    shown = []
    with progress.shown(log):
        for line in ("akt_rec, epoch 1", "base, epoch 1"):
            progress.say(log, line)
            deadline = time.monotonic() + 30
            while line not in "".join(shown) and time.monotonic() < deadline:
                shown.append(capsys.readouterr().out)
        progress.say(log, "the end")
    shown.append(capsys.readouterr().out)
    assert "".join(shown) == "akt_rec, epoch 1\nbase, epoch 1\nthe end\n"


def test_lines_of_an_earlier_run_are_not_shown(tmp_path, capsys):
    log = str(tmp_path / "progress.log")
    progress.say(log, "yesterday")
    with progress.shown(log):
        pass
    assert capsys.readouterr().out == ""
