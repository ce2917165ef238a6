"""The report: it opens offline, escapes titles, copes with what is missing, and its JSON is strict."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from akt_spark.errors import MissingInput
from akt_spark.evaluation import evaluate, inputs, report
from akt_spark.evaluation.metrics import METRICS
from akt_spark.evaluation.slices import SLICES
from akt_spark.evaluation.summary import to_json, write_atomically

from .conftest import EMPTY, EVIL, VARIANTS, Night, context, plant, predict
from .lakes import write


def test_the_page_fetches_nothing(night: Night) -> None:
    sources = re.findall(r"""(?:src|href)\s*=\s*["']([^"']*)""", night.page)
    assert sources
    assert all(source.startswith(("#", "data:image/jpeg;base64,")) for source in sources)
    assert "@import" not in night.page
    assert not re.search(r"url\((?!#)", night.page)
    assert "<script" not in night.page


def test_titles_are_escaped(night: Night) -> None:
    assert EVIL not in night.page
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp; Sons" in night.page


def test_every_section_has_its_tables_and_plots(night: Night) -> None:
    for text in ("Result", "Slices", "Semantic IDs", "Clusters", "Gate and training", "Calibration", "Stages"):
        assert f"<h2>{text}</h2>" in night.page
    assert "<h2>Gains by activity and by teachers</h2>" in night.page
    assert [name for name in SLICES if name.replace("_", " ") not in night.page] == []
    assert "akt_rec" in night.page
    labels = re.findall(r'aria-label="([^"]*)"', night.page)
    assert "AUC: differences to base by slice" in labels
    assert "activity gate of items against their impressions" in labels
    assert "training loss (log loss) against optimiser steps" in labels
    assert "better on AUC" in night.page


def test_gains_are_drawn_against_deciles_and_teachers_with_those_that_have_none(night: Night) -> None:
    for of in ("items by impressions", "users by impressions"):
        assert f'aria-label="GAUC: differences to base by decile of {of} in training"' in night.page
    start = night.page.index('aria-label="AUC: differences to base by decile of items')
    plot = night.page[start : night.page.index("</svg>", start)]
    labels = re.findall(r"<text [^>]*>([^<]*)</text>", plot)
    # of 29 items with impressions 19 have 3, ten 200; all below the tables have a row
    assert [label for label in labels if label in {"none", *map(str, range(1, 11))}] == ["none", "4", "9"]
    assert last_row(night.page, "item decile 05").count("<td>-<small>no test impressions</small></td>") == len(VARIANTS)


def test_what_a_ranker_costs_is_the_mean_over_seeds_and_the_most_memory(night: Night) -> None:
    costs = night.page[night.page.index("<h3>What each ranker costs</h3>") :]
    row = last_row(costs[: costs.index("</table>")], "akt_rec")
    assert re.findall(r"<td>([^<]*)</td>", row) == ["1,234", "200", "1.0", "0.75", "2.5"]


def test_ids_of_the_plots_do_not_clash_and_every_reference_inside_them_holds(night: Night) -> None:
    ids = re.findall(r'\bid="([^"]*)"', night.page)
    assert len(ids) == len(set(ids))
    used = set(re.findall(r'(?:href="#|url\(#)([^")]*)', night.page))
    assert used <= set(ids)


def test_clusters_can_be_browsed_with_head_and_tail_marked_and_pictures_where_there_are_any(night: Night) -> None:
    clusters = night.page[night.page.index('id="clusters"') : night.page.index('id="training"')]
    assert clusters.count('<details class="cluster">') == 2
    assert "15 items: 5 head, 9 tail, 1 cold; ★ 2 teachers" in clusters  # even numbers: code 0
    assert "14 items: 5 head, 9 tail, 0 cold; no teacher" in clusters  # 29 has no ID
    assert 'class="tag head"' in clusters
    assert 'class="tag tail"' in clusters
    assert clusters.count("<img") == 2  # item 2 has a picture, in the strip and in the list; that of item 4 is corrupt
    assert "Comedy, 200 impressions, 0-0" in clusters
    assert "map of item embeddings coloured by the first code" in clusters


def test_the_map_has_the_codes_of_the_published_codebook_and_nights_leave_out_one_that_never_was(night: Night) -> None:
    names = set(re.findall(r"(\d+): Comedy", night.page))
    assert names == {"4", "5"}  # samples were built on codes 0 and 1
    nights = inputs.health_over_nights(night.ctx)
    assert {(found.ds.day, found.codebook_version) for found in nights} == {(31, "v1"), (30, "v0")}  # 29: refused


def test_measures_of_health_stand_above_their_controls_and_over_nights(night: Night) -> None:
    row = last_row(night.page, "purity<")
    assert row.index("0.500") < row.index("random 0.125\ncategory 0.750".replace("\n", ""))
    assert 'aria-label="health of item IDs over nights"' in night.page
    assert 'aria-label="health of user IDs over nights"' not in night.page
    assert night.summary["semantic_ids"]["item"]["purity_category"] == {"1": 0.75}


def test_an_undefined_metric_is_a_dash_with_its_reason(night: Night) -> None:
    assert "<td>-<small>no user with both classes</small></td>" in last_row(night.page, "user cold")
    assert "<td>-<small>no clicks</small></td>" in last_row(
        night.page[: night.page.index("<h3>GAUC</h3>")], "user cold"
    )
    assert night.summary["metrics"]["base"]["user_cold"]["auc"] is None


def last_row(page: str, name: str) -> str:
    """The row of this name in the last table that has one, on one line."""
    start = page.rindex(f'<th scope="row">{name}')
    return page[start : page.index("</tr>", start)].replace("\n", "")


def test_summary_has_every_metric_of_every_variant_and_slice(night: Night) -> None:
    summary = night.summary
    assert (summary["run_id"], summary["ds"], summary["reference"]) == ("2024-01-31", "2024-01-31", "base")
    assert set(summary["metrics"]) == set(VARIANTS)
    for slices in summary["metrics"].values():
        assert set(slices) == set(SLICES) - EMPTY
        assert all(set(metrics) == set(METRICS) for metrics in slices.values())
    by_seed = summary["metrics_by_seed"]["akt_rec"]
    mean = (by_seed["1"]["all"]["auc"] + by_seed["2"]["all"]["auc"]) / 2
    assert summary["metrics"]["akt_rec"]["all"]["auc"] == pytest.approx(mean)
    found = summary["differences"]["akt_rec"]["base"]["all"]["auc"]
    assert found["clear_of_zero"] is True
    assert found["lower"] < found["difference"] < found["upper"]


def test_summary_has_the_newest_finished_run_of_every_stage_of_this_run(night: Night) -> None:
    seconds, rows = night.summary["seconds"], night.summary["rows"]
    assert seconds["stages"]["ingest"] == 3.0
    assert seconds["stages"]["embed"] == 1.5
    assert seconds["total"] == pytest.approx(sum(seconds["stages"].values()))
    assert rows["ingest"] == {"in": 100, "out": 97, "quarantined": 4}


def test_summary_has_semantic_health_and_versions_without_nan(night: Night) -> None:
    health = night.summary["semantic_ids"]
    assert health["item"]["coverage"] == {"1": 0.875}
    assert health["item"]["churn"] == {"0": None}
    assert health["user"] == {}
    names = {"python", "pyspark", "delta", "torch", "transformers", "petastorm", "horovod", "pyarrow"}
    assert set(night.summary["versions"]) == set(inputs.versions()) == names
    with pytest.raises(ValueError, match="JSON compliant"):
        to_json({"value": float("nan")})


def test_the_terminal_table_ends_with_the_place_of_the_report(night: Night) -> None:
    lines = report.terminal_table(night.ctx).splitlines()
    assert lines[0].split() == ["AUC", "GAUC", "GAUC", "by", "user", "tail", "AUC", "head", "AUC", "log", "loss"]
    assert lines[-1] == f"report: {night.ctx.config.report.path}/index.html"
    assert "\n".join(lines).isascii()
    assert max(len(line) for line in lines[:-1]) <= 140


@pytest.mark.night
def test_a_run_with_one_variant_one_seed_and_no_optional_table_is_reported(spark: SparkSession, tmp_path: Path) -> None:
    ctx = context(spark, tmp_path)
    samples = [sample | {"label": 1.0} if sample["item_idx"] > 10 else sample for sample in plant(ctx.lake)[:120]]
    write(ctx.lake, "training.samples", samples)
    items = [{"idx": idx, "item_id": f"i{idx}", "segment": "head", "role": "none"} for idx in range(1, 31)]
    write(ctx.lake, "training.items", items)
    predict(ctx.lake, samples, {"base": 0.7}, seeds=[1])
    with pytest.raises(MissingInput, match=r"evaluation\.metrics"):
        report.run(ctx)
    evaluate.run(ctx)
    report.run(ctx)
    page = (tmp_path / "report" / "index.html").read_text()
    summary = json.loads((tmp_path / "report" / "summary.json").read_text())
    assert "Every variant was trained once" in page
    for absence in ("No variant of this run has a gate", "No training curves", "Not measured in this run"):
        assert absence in page
    assert "No item of this run has a semantic ID" in page
    assert "ops.runs has no finished stage" in page
    assert "<small>no test impressions</small>" in last_row(page, "item cold")
    assert summary["metrics"]["base"]["all"]["ne"] is None
    assert summary["differences"] == {}


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "index.html"
    write_atomically(path, "old")
    write_atomically(path, "new")
    assert path.read_text() == "new"
    assert [entry.name for entry in path.parent.iterdir()] == ["index.html"]
