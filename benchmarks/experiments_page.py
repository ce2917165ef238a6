"""docs/results.md, a page an experiment and pictures, from what benchmarks/experiments.py read: no figure is typed.

python benchmarks/experiments_page.py
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from akt_spark.evaluation import plots
from akt_spark.evaluation.inputs import Cost, GateBin
from akt_spark.evaluation.results import Metric, Results
from akt_spark.evaluation.significance import Difference
from akt_spark.evaluation.slices import FAMILIES, SLICES, step
from akt_spark.evaluation.wording import interval, number, signed

REPOSITORY = Path(__file__).resolve().parent.parent
NAME = "experiments_"
HEAD = """# Results on real data

Made by `python benchmarks/experiments_page.py` from `benchmarks/results/experiments_*.json`. Those are read by
`python benchmarks/experiments.py` out of the tables that `jobs/experiment.py` writes: [experiments.md](experiments.md).
What they mean in words: [method.md](method.md#does-it-work). Every experiment has a page of its own, with all its
differences, gains by activity, gates and costs; its title below leads there.

- Values are means over training seeds; every variant and seed has seen the same samples in the same order of its seed.
- A difference is a variant minus the reference. In per cent it is variant / reference - 1, as the paper prints it;
  RelaImpr is (AUC - .5) / (reference AUC - .5) - 1. Wins: seeds in which the variant is the better one.
- Intervals hold 95 % and come from resampling test users, the same ones for all variants and seeds; they do not cover
  the choice of seeds.
- p is two-sided and Holm's: adjusted for all variants and all slices of one family that are compared with one reference
  by one metric. Families: the paper's slices (all, head, tail); item deciles; user deciles; counts of teachers; each
  planted tail. **Bold**: p below .05.
- GAUC weights users by impressions; "by user" weights them equally. Users with one class have none.
- Head: item and user were both not rare in training; tail: all else. What a variant is: [rivals.md](rivals.md).
"""
TITLES = {
    "goal": "Is AKT-Rec above the base, and above sharing a prefix?",
    "sides": "Whose semantic IDs help?",
    "content": "Is the gain more than what content says?",
    "main": "All rankers",
    "counts": "Do counts of equal codes say what vectors say?",
    "admission": "What do rows of rare ids earn?",
    "direction": "Does it matter which way knowledge moves?",
    "gate": "Does the activity gate earn its place?",
    "parts": "What does each part add?",
    "views": "Does fusing the cluster view earn its place?",
    "remedies": "What might do better?",
    "popularity": "(negatives by popularity)",
    "quick": "(a first look)",
}
CLAIMS = ("goal", "main")  # shown in every form of a difference, with their gains by activity
METRICS = {"auc": "AUC", "gauc_impr": "GAUC", "gauc_user": "GAUC by user", "logloss": "log loss"}
RANKING = ("auc", "gauc_impr")
MARGINS = {  # place: what the first variant is to gain on the reference, in per cent of its value
    ("all", "auc"): 0.35,
    ("all", "gauc_impr"): 1.53,
    ("tail", "gauc_impr"): 4.0,
    ("head", "auc"): 0.0,
    ("head", "gauc_impr"): 0.0,
}
PLACES = (
    *(("all", metric) for metric in METRICS),
    *((name, metric) for name in ("head", "tail") for metric in RANKING),
)
PLANTED = re.compile(r"planted_(item|user)_(\w+)")
HOLM = 0.05


@dataclass(frozen=True)
class Experiment:
    """One experiment of one data set.

    Attributes:
        facts: the row that says what it is.
        results: with one seed, which stands for the mean over all of them.
    """

    facts: dict[str, Any]
    results: Results
    slices: dict[str, dict[str, int]]
    gates: list[GateBin]
    costs: list[Cost]

    @classmethod
    def of(cls, rows: list[dict[str, Any]]) -> Experiment:
        """From the rows of an experiment."""
        (facts,) = _of(rows, "experiment")
        slices = {row["slice"]: row for row in _of(rows, "slice")}
        metrics = {
            (row["variant"], 0, row["slice"], row["metric"]): Metric(row["value"], 0, None)
            for row in _of(rows, "value")
        }
        for name, row in slices.items():
            metrics[facts["reference"], 0, name, "n"] = Metric(row["n"], 0, None)
        known = {"seeds": len(facts["seeds"]), "resamples": facts["resamples"]}
        differences = [_built(Difference, row | known) for row in _of(rows, "difference")]
        results = Results(
            [name for name in facts["variants"] if name != facts["reference"]] + [facts["reference"]],
            facts["reference"],
            metrics,
            {(d.variant, d.reference, d.slice, d.metric): d for d in differences},
        )
        gates = [_built(GateBin, row) for row in _of(rows, "gate")]
        return cls(facts, results, slices, gates, [_built(Cost, row) for row in _of(rows, "cost")])


def _of(rows: list[dict[str, Any]], part: str) -> list[dict[str, Any]]:
    return [row for row in rows if row["part"] == part]


def _built(kind: Callable[..., Any], row: dict[str, Any]) -> Any:
    names = {field.name for field in fields(kind)}
    return kind(**{name: value for name, value in row.items() if name in names})


class Page:
    """The text, and by file name the pages of experiments and the pictures that these show."""

    def __init__(self, results: Path) -> None:
        self.pages: dict[str, str] = {}
        self.pictures: dict[str, str] = {}
        sets = {file.stem.removeprefix(NAME): json.loads(file.read_text()) for file in results.glob(f"{NAME}*.json")}
        found = {name: _experiments(result["rows"]) for name, result in sorted(sets.items())}
        lines = [*_margins(found)]
        for data_set, experiments in found.items():
            machine = sets[data_set]["machine"]
            lines += [f"## {data_set}\n", f"{machine['cores']} cores, {machine['memory_gib']:.0f} GiB.\n"]
            for name, experiment in experiments.items():
                lines += self._experiment(data_set, name, experiment)
        self.text = "\n".join([HEAD, *(lines or ["No experiment on real data has been recorded yet.\n"])])

    def write(self, docs: Path) -> None:
        """Writes results.md, results/*.md and results/*.svg, and removes those that there are no longer."""
        folder = docs / "results"
        folder.mkdir(parents=True, exist_ok=True)
        for file in (*folder.glob("*.svg"), *folder.glob("*.md")):
            file.unlink()
        for name, text in (self.pages | self.pictures).items():
            (folder / name).write_text(text)
        (docs / "results.md").write_text(self.text)

    def _experiment(self, data_set: str, name: str, found: Experiment) -> Iterator[str]:
        """What the page of results shows of an experiment, which gets a page of its own."""
        page = f"{data_set}_{name}.md"
        self.pages[page] = "\n".join(self._page(data_set, name, found))
        yield f"### [{_title(name)}](results/{page})\n"
        yield f"{_facts(name, found.facts)}\n"
        yield from _values(found.results)

    def _page(self, data_set: str, name: str, found: Experiment) -> Iterator[str]:
        yield f"# {data_set}: {_title(name)}\n"
        yield "What the words and columns mean: [results.md](../results.md).\n"
        yield f"{_facts(name, found.facts)}\n"
        yield from _values(found.results)
        claim = _files(name)[0] in CLAIMS
        if claim:
            for place in PLACES:
                yield from _against_reference(found.results, *place)
            yield from _first_against_others(found.results)
        else:
            yield from _each_as_reference(found.results)
        yield from _planted(found)
        if claim:
            yield from self._gains(f"{data_set}_{name}", found)
        yield from self._gates(data_set, name, found)
        yield from _costs(found)

    def _gains(self, prefix: str, found: Experiment) -> Iterator[str]:
        """Pictures and figures of the families whose slices are steps of one quantity."""
        for name, family in FAMILIES.items():
            places = [place for place in family.places if place in found.slices]
            if not family.axis or name.startswith("planted") or not set(family.slices) & set(places):
                continue
            yield f"## Gains by {family.axis}\n"
            if name.endswith("decile"):
                yield "Tenths of the ids with impressions in training, from the least shown; equal counts share one.\n"
            drawn = ((metric, plots.gain_plot(found.results, name, metric, METRICS[metric])) for metric in RANKING)
            yield self._shown((f"{prefix}_{name}_{metric}.svg", picture) for metric, picture in drawn)
            for metric in _measured(found.results, family.slices):
                yield from _folded(f"{METRICS[metric]} in figures", _steps(found, places, metric, family.none))

    def _gates(self, data_set: str, name: str, found: Experiment) -> Iterator[str]:
        """The gate against activity, where a variant has one."""
        if not found.gates:
            return
        yield "## The gate against activity\n"
        yield "Mean weight r of the cluster part, by impressions in training; 1 - r is that of the id's own part.\n"
        drawn = ((entity, plots.gate_plot(found.gates, found.results, entity)) for entity in ("item", "user"))
        yield self._shown((f"{data_set}_{name}_gate_{entity}.svg", picture) for entity, picture in drawn)
        for entity in sorted({gate.entity for gate in found.gates}):
            yield from _folded(f"{entity}s in figures", _gate_table(found, entity))

    def _shown(self, drawn: Iterable[tuple[str, str | None]]) -> str:
        """Keeps the pictures, on white, which a dark page needs; returns the line that shows them."""
        kept = {name: picture for name, picture in drawn if picture is not None}
        for name, picture in kept.items():
            ground = '<rect width="100%" height="100%" fill="#fff"/>'
            self.pictures[name] = re.sub(r"(<svg[^>]*>)", rf"\1{ground}", str(picture), count=1).rstrip() + "\n"
        labels = {name: re.search(r'aria-label="([^"]*)"', picture).group(1) for name, picture in kept.items()}
        return " ".join(f'<img src="{name}" alt="{labels[name]}" width="49%">' for name in kept) + "\n"


def _experiments(rows: list[dict[str, Any]]) -> dict[str, Experiment]:
    """The experiments of a data set, in the order in which they are shown."""
    names = sorted((row["experiment"] for row in _of(rows, "experiment")), key=_place)
    return {name: Experiment.of([row for row in rows if row["experiment"] == name]) for name in names}


def _margins(found: dict[str, dict[str, Experiment]]) -> Iterator[str]:
    """What was claimed, and how much of it was found: of every claim's first variant and of the best other one."""
    claims = [
        (data_set, name, experiment.results)
        for data_set, experiments in found.items()
        for name, experiment in experiments.items()
        if _files(name)[0] in CLAIMS
    ]
    if not claims:
        return
    yield "## The paper's margins\n"
    yield (
        "Gains on the reference in per cent of its value; the paper's are on the logs of its own shop. Under the first "
        "variant of an experiment stands the one with the highest AUC of all others, where that is not the reference.\n"
    )
    yield from _table(
        ["data", "experiment", "seeds", "variant", *(_label(*place) for place in MARGINS)],
        [
            [
                "",
                "to be passed",
                "",
                "",
                *(f"{margin:+.2f} %" if margin else "not below" for margin in MARGINS.values()),
            ],
            *(
                [data_set, f"[{_title(name)}](results/{data_set}_{name}.md)", str(_seeds(results)), f"`{variant}`"]
                + [_in_per_cent(results.against(variant, *place)) for place in MARGINS]
                for data_set, name, results in claims
                for variant in _best(results)
            ),
        ],
    )


def _seeds(results: Results) -> int:
    return next(iter(results.differences.values())).seeds


def _best(results: Results) -> list[str]:
    """The first variant, and the best other one unless it is the reference."""
    first, *others = results.variants
    best = max(others, key=lambda variant: results.mean(variant, "all", "auc"))
    return [first] if best == results.reference else [first, best]


def _in_per_cent(difference: Difference | None) -> str:
    if difference is None or difference.ratio is None:
        return "-"
    return _emphasised(difference, f"{100 * difference.ratio:+.2f} %")


def _title(name: str) -> str:
    return " ".join(TITLES.get(file, file) for file in _files(name))


def _files(name: str) -> list[str]:
    """The files of conf/experiments that an experiment was put together from."""
    return name.split("-")


def _place(name: str) -> tuple[list[int], str]:
    """Where an experiment stands among others."""
    known = list(TITLES)
    return [known.index(file) if file in known else len(known) for file in _files(name)], name


def _facts(name: str, facts: dict[str, Any]) -> str:
    samples, positives = facts["samples"], facts["positives"]
    counts = ", ".join(
        f"{samples[split]:,} {split} samples ({positives[split] / samples[split]:.1%} positive)"
        for split in ("train", "validation", "test")
        if samples.get(split)
    )
    training, remark = facts["training"], facts["remark"] and f"; {facts['remark']}"
    return (
        f"{', '.join(f'`conf/experiments/{file}.yaml`' for file in _files(name))}; reference `{facts['reference']}`; "
        f"seeds {', '.join(map(str, facts['seeds']))}; {counts}; negatives: {facts['negatives']}; at most "
        f"{training['epochs']} epochs in batches of {training['batch_size']} on {training['ranks']} ranks "
        f"({training['backend']}); {facts['resamples']:,} resamples of users; day {facts['ds']}; recorded at "
        f"commit {facts['code']}; source {facts['source_revision']}{remark}."
    )


def _label(place: str, metric: str) -> str:
    return METRICS[metric] if place == "all" else f"{place} {METRICS[metric]}"


def _values(results: Results) -> Iterator[str]:
    yield from _table(
        ["variant", *(_label(*place) for place in PLACES)],
        [[f"`{v}`", *(number(results.mean(v, *place)) for place in PLACES)] for v in results.variants],
    )


def _against_reference(results: Results, place: str, metric: str) -> Iterator[str]:
    """Everything about one metric on one slice."""
    found = [results.against(variant, place, metric) for variant in results.variants[:-1]]
    if not any(found):
        return
    yield f"## {_label(place, metric)} minus that of `{results.reference}`\n"
    if metric == "logloss":
        yield "Lower is better.\n"
    lines = [
        [
            f"`{d.variant}`",
            number(results.mean(d.variant, place, metric)),
            _emphasised(d, signed(d.difference)),
            "-" if d.ratio is None else f"{100 * d.ratio:+.2f} %",
            "-" if d.rela_impr is None else f"{100 * d.rela_impr:+.2f} %",
            interval(d),
            f"{d.wins} of {d.seeds}",
            _p(d.p_holm),
        ]
        for d in found
        if d is not None
    ]
    yield from _table(["variant", "value", "difference", "per cent", "RelaImpr", "95 % interval", "wins", "p"], lines)


def _first_against_others(results: Results) -> Iterator[str]:
    """Whether the first variant beats the others, the strongest of which need not be the reference."""
    first, *others = results.variants
    pairs = [(first, other) for other in others if results.against(first, "all", "auc", other)]
    if pairs:
        yield f"## `{first}` against each other variant\n"
        yield from _compared(results, pairs, "minus")


def _each_as_reference(results: Results) -> Iterator[str]:
    """Differences of all variants to the reference, then, folded, to every other one."""
    for reference in reversed(results.variants):
        pairs = [(variant, reference) for variant in results.variants if variant != reference]
        if not any(results.against(variant, "all", "auc", reference) for variant, _ in pairs):
            continue
        summary, lines = f"Differences to `{reference}`: 95 % interval, wins and p", _compared(results, pairs)
        if reference == results.reference:
            yield f"{summary}.\n"
            yield from lines
        else:
            yield from _folded(summary.replace("`", ""), lines)


def _compared(results: Results, pairs: list[tuple[str, str]], head: str = "variant") -> Iterator[str]:
    """A line a pair: what the ranking metrics say on the paper's slices."""
    places = [place for place in PLACES if place[1] in RANKING]
    named = {pair: pair[1] if head == "minus" else pair[0] for pair in pairs}
    yield from _table(
        [head, *(_label(*place) for place in places)],
        [
            [f"`{named[pair]}`", *(_cell(results.against(pair[0], *place, pair[1])) for place in places)]
            for pair in pairs
        ],
    )


def _planted(found: Experiment) -> Iterator[str]:
    """The planted tail, where a data set has one: ids drawn at random keep a known number of training events."""
    matches = [match for name in found.slices if (match := PLANTED.fullmatch(name))]
    results = found.results
    for entity in sorted({match.group(1) for match in matches}):
        left = {match.group(2): match.string for match in matches if match.group(1) == entity}
        steps = sorted(left.items(), key=lambda kept: (not kept[0].isdecimal(), kept[0].zfill(9)))
        for metric in _measured(results, left.values()):
            yield f"## Planted tail of {entity}s: {METRICS[metric]} minus that of `{results.reference}`\n"
            counts = (f"{kept} ({found.slices[name]['n']:,} rows)" for kept, name in steps)
            yield from _table(
                ["training events left", *counts],
                [
                    [f"`{variant}`", *(_cell(results.against(variant, name, metric)) for _, name in steps)]
                    for variant in results.variants[:-1]
                ],
            )


def _measured(results: Results, places: Iterable[str]) -> list[str]:
    """The ranking metrics of which there are differences on some of these slices."""
    present = {(name, metric) for *_, name, metric in results.differences}
    return [metric for metric in RANKING if any((name, metric) in present for name in places)]


def _steps(found: Experiment, places: list[str], metric: str, none: str | None) -> Iterator[str]:
    variants = plots.drawn(found.results)[:-1]
    yield from _table(
        ["step", "rows", "users", *(f"`{variant}`" for variant in variants)],
        [
            [
                SLICES[place] if place == none else step(place),
                f"{found.slices[place]['n']:,}",
                f"{found.slices[place]['users']:,}",
                *(_cell(found.results.against(variant, place, metric)) for variant in variants),
            ]
            for place in places
        ],
    )


def _gate_table(found: Experiment, entity: str) -> Iterator[str]:
    means = {(gate.impressions_from, gate.variant): gate for gate in found.gates if gate.entity == entity}
    variants = [name for name in found.results.variants if any(name == variant for _, variant in means)]
    lines = []
    for low in sorted({low for low, _ in means}):
        of = {variant: means[low, variant] for variant in variants if (low, variant) in means}
        gate = next(iter(of.values()))
        last = gate.impressions_to - 1
        lines.append(
            [
                f"{low:,}" if last <= low else f"{low:,} to {last:,}",
                f"{gate.ids:,}",
                *(number(of[variant].mean, 3) if variant in of else "-" for variant in variants),
            ]
        )
    yield from _table(["impressions", "ids", *(f"`{variant}`" for variant in variants)], lines)


def _costs(found: Experiment) -> Iterator[str]:
    """What each variant takes to train once."""
    if not found.costs:
        return
    of = {cost.variant: cost for cost in found.costs}
    yield "## Cost of each variant\n"
    yield "To train it once: means over seeds, and the most memory of a rank in any of them. Samples/s: of all ranks.\n"
    yield from _table(
        ["variant", "parameters", "samples/s", "minutes", "GiB of a rank", "epoch kept"],
        [
            [
                f"`{name}`",
                f"{of[name].parameters:,}",
                f"{of[name].samples_per_second:,.0f}",
                f"{of[name].minutes:,.1f}",
                f"{of[name].peak_gib:.2f}",
                f"{of[name].epoch:.3g}",
            ]
            for name in found.results.variants
            if name in of
        ],
    )


def _cell(difference: Difference | None) -> str:
    if difference is None:
        return "-"
    found = [_emphasised(difference, signed(difference.difference)), interval(difference)]
    if difference.p_holm is not None:
        found.append(f"{difference.wins}/{difference.seeds}, p {_p(difference.p_holm)}")
    return "<br>".join(found)


def _emphasised(difference: Difference, text: str) -> str:
    return f"**{text}**" if difference.p_holm is not None and difference.p_holm < HOLM else text


def _p(value: float | None) -> str:
    return "-" if value is None else "< .001" if value < 0.001 else f"{value:.3f}"


def _folded(summary: str, lines: Iterable[str]) -> Iterator[str]:
    yield f"<details><summary>{summary}</summary>\n"
    yield from lines
    yield "</details>\n"


def _table(head: list[str], lines: list[list[str]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    yield from ("| " + " | ".join(line) + " |" for line in lines)
    yield ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--results", type=Path, default=REPOSITORY / "benchmarks/results", help="folder of the JSON files"
    )
    parser.add_argument("--out", type=Path, default=REPOSITORY / "docs", help="folder of results.md")
    options = parser.parse_args()
    Page(options.results).write(options.out)


if __name__ == "__main__":
    main()
