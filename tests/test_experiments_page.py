"""docs/results.md and its pages hold what the results of the experiments hold, and nothing of what was not run."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
VARIANTS = ["akt_rec", "prefix_residual", "base"]


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """benchmarks/experiments_page.py."""
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
    import experiments_page

    return experiments_page


def facts(name: str) -> dict[str, Any]:
    return {
        "part": "experiment",
        "experiment": name,
        "ds": "2024-01-20",
        "code": "c0ffee",
        "remark": "",
        "reference": "base",
        "variants": VARIANTS,
        "seeds": [1, 2],
        "resamples": 1000,
        "training": {"epochs": 2, "batch_size": 512, "ranks": 2, "backend": "horovod"},
        "negatives": "impressions",
        "samples": {"train": 5000, "test": 1000},
        "positives": {"train": 2500, "test": 400},
        "source_revision": "0123abcd",
    }


def difference(variant: str, place: str, metric: str, value: float, **more: Any) -> dict[str, Any]:
    row = {"part": "difference", "variant": variant, "reference": "base", "slice": place, "metric": metric}
    row |= {"difference": value, "lower": value - 0.002, "upper": value + 0.002, "ratio": value / 0.75}
    return row | {"rela_impr": value / 0.25, "wins": 2, "seed_sd": 0.001, "users": 90, "p_holm": 0.2} | more


def main_rows() -> list[dict[str, Any]]:
    rows = [
        {"part": "value", "variant": variant, "slice": place, "metric": metric, "value": 0.75 + number / 100}
        for number, variant in enumerate(VARIANTS)
        for place in ("all", "head", "tail")
        for metric in ("auc", "gauc_impr", "gauc_user", "logloss")
    ]
    rows += [
        difference("akt_rec", "all", "auc", 0.0123, p_holm=0.0004),
        difference("prefix_residual", "all", "auc", 0.001, wins=1),
        difference("akt_rec", "all", "auc", 0.0077, reference="prefix_residual"),
        difference("akt_rec", "tail", "gauc_impr", 0.05, lower=None, upper=None, users=9, p_holm=None),
        difference("akt_rec", "all", "logloss", -0.01, rela_impr=None),
    ]
    return rows


def stepped() -> list[dict[str, Any]]:
    """What is drawn: deciles, teachers, gates."""
    places = {"item_cold": 5, "item_decile_03": 40, "item_decile_10": 900, "cluster_teachers_4_15": 700, "all": 1000}
    rows = [{"part": "slice", "slice": name, "n": n, "positives": 1, "users": 50} for name, n in places.items()]
    rows += [difference("akt_rec", name, "auc", 0.002) for name in places if name != "all"]
    gate = {"part": "gate", "entity": "item", "ids": 7, "p10": 0.4, "p90": 0.6}
    bins = [(0, 1, 0.625), (2, 4, 0.5)]
    return rows + [
        gate | {"variant": "akt_rec", "impressions_from": low, "impressions_to": high, "mean": mean}
        for low, high, mean in bins
    ]


def costs() -> list[dict[str, Any]]:
    cost = {"part": "cost", "parameters": 12345, "samples_per_second": 6789.4, "minutes": 1.25, "peak_gib": 0.875}
    return [cost | {"variant": "akt_rec", "epoch": 1.5}]


def made(pages: ModuleType, folder: Path, *experiments: tuple[str, list[dict[str, Any]]]) -> Any:
    """The page of one data set."""
    rows = [row | {"experiment": name} for name, found in experiments for row in [facts(name), *found]]
    result = {"rows": rows, "machine": {"cores": 2, "memory_gib": 23.5}}
    (folder / "experiments_tiny.json").write_text(json.dumps(result))
    return pages.Page(folder)


def line(text: str, heading: str, variant: str) -> list[str]:
    """The cells of a variant in the first table after a heading."""
    after = text[text.index(heading) :]
    return [cell.strip() for cell in re.search(rf"^\| `{variant}` \|.*$", after, re.MULTILINE).group().split("|")[2:-1]]


def test_the_page_and_its_pictures_are_made_from_the_results(pages: ModuleType, tmp_path: Path) -> None:
    pages.Page(REPOSITORY / "benchmarks/results").write(tmp_path)
    docs = REPOSITORY / "docs"
    assert (tmp_path / "results.md").read_text() == (docs / "results.md").read_text()
    beside = {file.name: file.read_text() for file in docs.glob("results/*")}
    assert {file.name: file.read_text() for file in tmp_path.glob("results/*")} == beside


def test_without_results_the_page_says_nothing_of_any_data_set(pages: ModuleType, tmp_path: Path) -> None:
    page = pages.Page(tmp_path)
    assert page.pictures == page.pages == {}
    assert "\n## " not in page.text and "hm_week" not in page.text and "movielens" not in page.text


def test_the_main_table_has_every_form_of_a_difference(pages: ModuleType, tmp_path: Path) -> None:
    page = made(pages, tmp_path, ("main", main_rows()))
    assert "## tiny\n\n2 cores, 24 GiB.\n" in page.text
    assert line(page.text, "### [All rankers](results/tiny_main.md)", "akt_rec") == ["0.7500"] * 8
    text = page.pages["tiny_main.md"]
    assert "seeds 1, 2; 5,000 train samples (50.0% positive), 1,000 test samples (40.0% positive)" in text
    assert "1,000 resamples of users; day 2024-01-20; recorded at commit c0ffee; source 0123abcd.\n" in text
    assert line(text, "# tiny: All rankers", "akt_rec") == ["0.7500"] * 8
    auc = "## AUC minus that of `base`"
    whole = ["0.7500", "**+0.0123**", "+1.64 %", "+4.92 %", "+0.0103 to +0.0143", "2 of 2", "< .001"]
    assert line(text, auc, "akt_rec") == whole
    assert line(text, auc, "prefix_residual")[1::5] == ["+0.0010", "0.200"]
    assert line(text, "## log loss minus", "akt_rec")[3] == "-"
    assert line(text, "## tail GAUC minus", "akt_rec")[4:] == ["no interval: 9 users", "2 of 2", "-"]
    assert line(text, "## `akt_rec` against each other", "prefix_residual")[0].startswith("+0.0077<br>")
    assert "head AUC minus" not in text  # there are no such differences


def test_what_was_not_measured_is_not_mentioned(pages: ModuleType, tmp_path: Path) -> None:
    page = made(pages, tmp_path, ("main", main_rows()))
    assert page.pictures == {}
    for absent in ("gate against", "Gains by", "Planted tail of", "Cost of", "Does it matter", "<details>"):
        assert absent not in page.text + page.pages["tiny_main.md"]


def test_what_was_claimed_stands_before_what_was_found_of_the_first_variant_and_the_best_other(
    pages: ModuleType, tmp_path: Path
) -> None:
    text = made(pages, tmp_path, ("main", main_rows()), ("direction", main_rows())).text
    heading, link = "## The paper's margins", "[All rankers](results/tiny_main.md)"
    table = [line for line in text[text.index(heading) : text.index("## tiny")].splitlines() if line.startswith("|")]
    assert table[2] == "|  | to be passed |  |  | +0.35 % | +1.53 % | +4.00 % | not below | not below |"
    assert table[3] == f"| tiny | {link} | 2 | `akt_rec` | **+1.64 %** | - | +6.67 % | - | - |"
    assert len(table) == 4  # the others are below the reference here, and the other experiment claims nothing
    better = [row | {"value": 0.8} if row.get("variant") == "prefix_residual" else row for row in main_rows()]
    text = made(pages, tmp_path, ("main", better)).text
    assert f"| tiny | {link} | 2 | `prefix_residual` | +0.13 % | - | - | - | - |" in text


def test_steps_and_gates_are_drawn_and_stand_in_figures_below(pages: ModuleType, tmp_path: Path) -> None:
    page = made(pages, tmp_path, ("main", [*main_rows(), *stepped(), *costs()]))
    names = {"tiny_main_item_decile_auc.svg", "tiny_main_cluster_teachers_auc.svg", "tiny_main_gate_item.svg"}
    assert set(page.pictures) == names
    text = page.pages["tiny_main.md"]
    for name in names:
        assert f'<img src="{name}"' in text
        assert page.pictures[name].startswith("<svg ") and page.pictures[name].endswith("</svg>\n")
        assert '<rect width="100%" height="100%" fill="#fff"/>' in page.pictures[name]
    assert "| 3 | 40 | 50 | +0.0020<br>0.0000 to +0.0040<br>2/2, p 0.200 | - |" in text
    assert "| item without impressions in training | 5 | 50 |" in text
    assert "| 4-15 | 700 | 50 |" in text
    assert "| 0 | 7 | 0.625 |" in text and "| 2 to 3 | 7 | 0.500 |" in text
    assert line(text, "## Cost of each variant", "akt_rec") == ["12,345", "6,789", "1.2", "0.88", "1.5"]
    page.write(tmp_path)
    assert {file.name for file in tmp_path.glob("results/*")} == names | {"tiny_main.md"}
    pages.Page(tmp_path / "nothing").write(tmp_path)
    assert not list(tmp_path.glob("results/*"))


def test_an_experiment_of_two_files_stands_behind_that_of_the_first_and_keeps_its_pictures(
    pages: ModuleType, tmp_path: Path
) -> None:
    rows = [*main_rows(), *stepped()]
    page = made(pages, tmp_path, ("main-popularity", rows), ("main", rows), ("new", rows))
    places = [page.text.index(title) for title in ("### [All rankers](", "### [All rankers (", "### [new](")]
    assert places == sorted(places)
    assert "`conf/experiments/main.yaml`, `conf/experiments/popularity.yaml`; reference `base`" in page.text
    assert {"tiny_main_item_decile_auc.svg", "tiny_main-popularity_item_decile_auc.svg"} <= set(page.pictures)
    assert line(page.text, "### [All rankers (negatives", "akt_rec") == ["0.7500"] * 8


def test_ablations_compare_every_pair_and_a_planted_tail_is_shown_by_what_is_left(
    pages: ModuleType, tmp_path: Path
) -> None:
    rows = main_rows()
    for kept, n in {"30": 30, "control": 5, "0": 0, "9": 9}.items():
        rows.append({"part": "slice", "slice": f"planted_item_{kept}", "n": 100 + n, "positives": 1, "users": 50})
        rows += [difference(variant, f"planted_item_{kept}", "auc", n / 1000) for variant in VARIANTS[:-1]]
    page = made(pages, tmp_path, ("direction", rows), ("other", main_rows()))
    assert page.text.index("### [Does it matter which way knowledge moves?]") < page.text.index("### [other]")
    text = page.pages["tiny_direction.md"]
    assert "<summary>Differences to prefix_residual: 95 % interval, wins and p</summary>" in text
    assert line(text, "Differences to `base`", "akt_rec")[0] == "**+0.0123**<br>+0.0103 to +0.0143<br>2/2, p < .001"
    planted = "## Planted tail of items: AUC minus that of `base`"
    assert "| training events left | 0 (100 rows) | 9 (109 rows) | 30 (130 rows) | control (105 rows) |" in text
    cells = [cell.split("<br>")[0] for cell in line(text, planted, "prefix_residual")]
    assert cells == ["0.0000", "+0.0090", "+0.0300", "+0.0050"]
