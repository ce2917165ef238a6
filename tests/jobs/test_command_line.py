"""What a person sees who types something wrong: the value, what is allowed, and an exit code; never only a stack."""

from datetime import UTC, datetime

import pytest

from akt_spark.jobs import _moment, export, main, maintain, nightly, score

WHOLE = {"nightly": nightly, "maintain": maintain, "score": score, "export": export}


def attempt(capsys, *arguments, job="build_activity"):
    with pytest.raises(SystemExit) as end:
        WHOLE[job](arguments) if job in WHOLE else main(job, arguments)
    return end.value.code, capsys.readouterr().err


def test_a_missing_or_impossible_day_is_refused(capsys):
    code, message = attempt(capsys)
    assert (code, "--ds" in message) == (2, True)
    code, message = attempt(capsys, "--ds", "24.09.2018")
    assert (code, "'24.09.2018' is not a day: write YYYY-MM-DD" in message) == (2, True)


@pytest.mark.parametrize("job", ["build_activity", "nightly"])
def test_a_wrong_key_ends_with_exit_code_2_before_spark_starts(capsys, job):
    code, message = attempt(capsys, "--ds", "2018-09-24", "--set", "semantic.item.size=[4]", job=job)
    assert code == 2
    assert "semantic.item.size: unknown key (value [4])" in message and "sizes" in message


def test_a_missing_configuration_file_is_named(capsys):
    code, message = attempt(capsys, "--ds", "2018-09-24", "--conf-file", "conf/nowhere.yaml")
    assert (code, "conf/nowhere.yaml does not exist" in message) == (2, True)


def test_a_missing_input_ends_with_exit_code_3_and_names_the_job_that_makes_it(capsys, monkeypatch, spark, tmp_path):
    monkeypatch.setattr(type(spark), "stop", lambda session: None)  # the job finds the session of the tests
    settings = (f"lake.root={tmp_path / 'empty'}", "spark.shuffle_partitions=2")
    overrides = [word for setting in settings for word in ("--set", setting)]
    code, message = attempt(capsys, "--ds", "2024-01-31", *overrides, job="build_semantic_ids")
    assert code == 3
    assert "does not exist: run jobs/" in message and "Traceback" not in message


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((), "one of the arguments --ds --requests --candidates is required"),
        (("--ds", "2018-09-24", "--requests", "pairs.csv"), "not allowed with"),
        (("--requests", "pairs.csv", "--users", "users.csv"), "--users and --as-of go with --candidates"),
        (("--candidates", "items.csv", "--as-of", "soon"), "'soon' is not a time: write YYYY-MM-DD"),
    ],
)
def test_what_is_to_be_scored_is_said_once_and_in_full(capsys, arguments, named):
    code, message = attempt(capsys, *arguments, job="score")
    assert (code, named in message) == (2, True), message


def test_a_moment_without_an_offset_is_utc():
    assert _moment("2024-01-21T08:00") == datetime(2024, 1, 21, 8, tzinfo=UTC) == _moment("2024-01-21T10:00+02:00")


@pytest.mark.parametrize(
    ("job", "arguments"),
    [("score", ("--requests", "x.csv")), ("score", ("--candidates", "x.csv")), ("export", ("--out", "nowhere"))],
)
def test_serving_without_a_training_names_the_job_that_trains(capsys, monkeypatch, spark, tmp_path, job, arguments):
    monkeypatch.setattr(type(spark), "stop", lambda session: None)  # the job finds the session of the tests
    settings = (f"lake.root={tmp_path / 'empty'}", "spark.shuffle_partitions=2")
    overrides = [word for setting in settings for word in ("--set", setting)]
    code, message = attempt(capsys, *arguments, *overrides, job=job)
    assert (code, "run jobs/train_ranker.py" in message, "Traceback" in message) == (3, True, False)


def test_maintenance_needs_no_day_and_finds_nothing_in_an_empty_lake(capsys, monkeypatch, spark, tmp_path):
    monkeypatch.setattr(type(spark), "stop", lambda session: None)  # the job finds the session of the tests
    with pytest.raises(SystemExit) as end:
        maintain(("--dry-run", "--set", f"lake.root={tmp_path / 'empty'}"))
    shown = capsys.readouterr().out.splitlines()
    assert (end.value.code, shown[-1]) == (0, "runs: 0 kept, 0 no longer kept")
    code, message = attempt(capsys, "--set", "maintenance.retention_hours=1", job="maintain")
    assert (code, "maintenance.retention_hours" in message) == (2, True)
