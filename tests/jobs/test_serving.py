"""The commands of docs/serving.md on the shop's night."""

from __future__ import annotations

import deltalake
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import readme
from jobs_night import run

PAGE = "docs/serving.md"

pytestmark = pytest.mark.night


def rows(night, table: str, request: str | None = None) -> pd.DataFrame:
    read = deltalake.DeltaTable(str(night.lake.joinpath(*table.split(".")))).to_pandas()
    return read if request is None else read[read.request_id == request]


def typed(night, start: str, options: dict[str, str], *more: str) -> str:
    """Runs a command of the page; gives what it prints."""
    done = run(*readme.command(start, options | {"--conf-file": str(night.config)}, PAGE), *more)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def asked(night, tmp_path_factory):
    """The impressions of the test period, as somebody would ask for them, and the scores that the night gave them."""
    predictions = rows(night, "serving.predictions").query("variant == 'akt_rec'")
    events = rows(night, "bronze.events").rename(columns={"event_id": "sample_id"})
    joined = predictions.merge(events, on="sample_id")
    path = tmp_path_factory.mktemp("asked") / "pairs.parquet"
    pq.write_table(pa.Table.from_pandas(joined[["user_id", "item_id", "event_time"]], preserve_index=False), path)
    return path, joined


def test_pairs_of_the_test_period_have_the_scores_of_the_night(night, asked):
    path, expected = asked
    start = "spark-submit jobs/score.py --conf-file conf/demo.yaml --requests"
    typed(night, start, {"--requests": str(path)}, "--request-id", "test", "--set", "serving.variant=akt_rec")
    keys = ["user_id", "item_id", "event_time"]
    both = rows(night, "serving.scores", "test").merge(expected, on=keys, suffixes=("", "_night"))
    assert len(both) == len(expected) > 1000
    assert (both.score - both.score_night).abs().max() < 1e-6


def test_the_best_items_and_the_exported_folder_agree(night, tmp_path):
    items = rows(night, "bronze.items")[["item_id"]]
    items.to_csv(tmp_path / "items.csv", index=False)
    start = "spark-submit jobs/score.py --conf-file conf/demo.yaml --candidates"
    typed(night, start, {"--candidates": str(tmp_path / "items.csv"), "--top": "5"}, "--request-id", "best")
    best = rows(night, "serving.top_items", "best")
    assert best.groupby("user_id").size().eq(5).all()
    assert best.user_id.nunique() == len(rows(night, "features.user_index"))

    out = tmp_path / "exported"
    typed(night, "spark-submit jobs/export.py", {"--out": str(out)})
    best[["user_id", "item_id"]].to_parquet(tmp_path / "pairs.parquet")
    done = run("python", str(out / "example.py"), str(tmp_path / "pairs.parquet"), str(tmp_path / "scores.parquet"))
    assert done.returncode == 0, done.stderr
    scores = pd.read_parquet(tmp_path / "scores.parquet").score
    assert (scores.to_numpy() - best.score.to_numpy()) == pytest.approx(0, abs=1e-5)
