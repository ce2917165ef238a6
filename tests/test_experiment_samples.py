"""Which samples an experiment works on: the night's, at the night's version, or its own."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from akt_spark.conf_file import load
from akt_spark.config import Config
from akt_spark.errors import MissingInput
from akt_spark.experiment import SAMPLES, name_of, prepared, run_id
from akt_spark.lake import Lake
from akt_spark.ledger import Ledger, Record

DS = date(2024, 1, 31)


def built(lake: Lake, run: str, config: str, version: int, hour: int, ds: date = DS) -> None:
    """Records a ``build_samples`` of a run that left a version of the samples."""
    record = Record(
        *(run, "build_samples", ds, "done", "fingerprint", "revision", config, {}, {SAMPLES: version}),
        *(0, 0, 0, 1.0, [], None, datetime(2024, 2, 1, hour, tzinfo=UTC)),
    )
    Ledger(lake, run).append(record)


def test_an_experiment_takes_the_samples_of_the_night_unless_it_asks_for_others(lake: Lake) -> None:
    night = load(None)
    other = load(None, ["samples.negatives=popularity"])
    with pytest.raises(MissingInput, match=r"run jobs/nightly\.py"):
        prepared(lake, night, DS)
    lake.register(SAMPLES)
    built(lake, "2024-01-31", night.model_dump_json(), version=0, hour=1)
    built(lake, run_id(DS, "main-popularity"), other.model_dump_json(), version=1, hour=2)  # of an experiment

    pinned, before = prepared(lake, night, DS)
    assert (pinned.version(SAMPLES), before) == (0, ())
    whole, before = prepared(lake, other, DS)
    assert (whole, before) == (lake, ("build_samples",))
    with pytest.raises(MissingInput, match="holds the samples of 2024-01-31, not of 2024-01-30"):
        prepared(lake, night, date(2024, 1, 30))


def test_samples_made_by_keys_that_are_no_more_are_built_again(lake: Lake) -> None:
    lake.register(SAMPLES)
    built(lake, "2024-01-31", '{"samples": {"forgotten": 1}}', version=0, hour=1)
    assert prepared(lake, Config(), DS)[1] == ("build_samples",)


def test_files_that_lie_on_top_of_each_other_name_the_run() -> None:
    assert run_id(DS, name_of([Path("conf/main.yaml"), Path("more/popularity.yaml")])) == "2024-01-31-main-popularity"
