"""The tables of the report as plain text cells, ready for the template."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from akt_spark.evaluation.inputs import Cost, Health
from akt_spark.evaluation.results import Results
from akt_spark.evaluation.significance import Difference
from akt_spark.evaluation.slices import SLICES
from akt_spark.evaluation.wording import HEADLINE, interval, number, signed
from akt_spark.semantic.measures import CATEGORY, OWN, RANDOM

HEALTH = {
    "coverage": "share of the level's codes that are in use",
    "perplexity": "codes in use, counted as if they were used equally; the bar is its share of the level's size",
    "near_ties": "share of ids so near the border of two first codes that a little noise could move them",
    "conditional_entropy": "what a code tells beyond the prefix before it, in nats",
    "clusters": "different prefixes: the rows that a table of cluster embeddings needs",
    "median_cluster_size": "ids in the median cluster of this prefix length",
    "largest_bucket": "share of ids in the largest cluster of this prefix length",
    "collision": "1 - clusters / ids: wanted here, since a cluster is a set of ids that share a prefix",
    "aliasing": "share of ids whose prefix another id has too",
    "head_coverage": "share of students whose cluster (same prefix) holds a teacher: whom the transfer can reach",
    "capacity_head": "clusters a teacher has to itself: 1 is one each, near 0 is all in one",
    "capacity_mid": "the same of ids between teachers and students",
    "capacity_tail": "the same of students",
    "fan_out": "next codes that a prefix has, on average",
    "fan_out_max": "next codes that a prefix has, at most",
    "unexplained_variance": "variance of the embeddings that the codes do not explain; lower is better",
    "neighbour_agreement": "share of nearest neighbours that have the same prefix (on a sample)",
    "purity": "share of ids that have the most frequent category of their cluster",
    "nmi": "mutual information of cluster and category, 0 to 1",
    "co_occurrence_recall": "share of co-clicked pairs, none of them trained on, whose items share a prefix",
    "churn": "share of ids whose prefix another codebook was to change",
    "adjusted_rand": "agreement of the clusters with those of the codebook before, whatever they are called",
}
BARS = {"coverage", "perplexity", "head_coverage", "purity", "nmi", "neighbour_agreement", "co_occurrence_recall"}
CALIBRATION = (("log loss", "logloss"), ("NE", "ne"), ("PCOC", "pcoc"), ("ECE", "ece"))


@dataclass(frozen=True)
class Cell:
    """A figure with what stands below it, and whether it is clearly better ('up') or worse ('down')."""

    text: str
    note: str = ""
    mark: str = ""
    bar: float | None = None


@dataclass(frozen=True)
class Line:
    """A table row: its name, an explanation below it, and its cells."""

    name: str
    note: str
    cells: list[Cell]


def headline(results: Results) -> list[Line]:
    """A line a variant: value, difference to the reference, interval, wins."""
    return [
        Line(
            variant,
            "reference" if variant == results.reference else "",
            [_measured(results, variant, *place) for _, *place in HEADLINE],
        )
        for variant in results.variants
    ]


def controls(results: Results) -> list[Line]:
    """The first variant minus each other one: the controls say where a gain comes from."""
    first, *others = results.variants
    lines = []
    for rival in others:
        found = [results.against(first, *place, rival) for _, *place in HEADLINE]
        lines.append(Line(f"minus {rival}", "", [_difference(difference) for difference in found]))
    return lines


def by_slice(results: Results, metric: str, names: Iterable[str]) -> list[Line]:
    """A line a slice: impressions, click rate, then every variant's value."""
    return [
        Line(
            name.replace("_", " "),
            SLICES[name],
            [*_population(results, name), *[_sliced(results, variant, name, metric) for variant in results.variants]],
        )
        for name in names
    ]


def costs(found: Iterable[Cost], results: Results) -> list[Line]:
    """A line a variant, in the order of the results: parameters, samples a second, minutes, GiB of a rank, epochs."""
    of = {cost.variant: cost for cost in found}
    return [Line(name, "", _cost(of[name])) for name in results.variants if name in of]


def _cost(cost: Cost) -> list[Cell]:
    figures = (
        f"{cost.parameters:,}",
        f"{cost.samples_per_second:,.0f}",
        f"{cost.minutes:,.1f}",
        f"{cost.peak_gib:.2f}",
        f"{cost.epoch:.3g}",
    )
    return [Cell(figure) for figure in figures]


def calibration(results: Results) -> list[Line]:
    """A line a variant: the calibration measures overall, then PCOC on head and tail."""
    places = [("all", metric) for _, metric in CALIBRATION] + [("head", "pcoc"), ("tail", "pcoc")]
    return [
        Line(variant, "", [Cell(number(results.mean(variant, *place))) for place in places])
        for variant in results.variants
    ]


def health(measures: Iterable[Health], entity: str, sizes: list[int]) -> list[Line]:
    """A line a measure: its value at every level, then of the whole ID; below it those of the controls that differ."""
    values = {(m.metric, m.level, m.control): m.value for m in measures if m.entity == entity}
    present = {metric for metric, *_ in values}
    names = [name for name in HEALTH if name in present] + sorted(present - HEALTH.keys())
    return [
        Line(
            name.replace("_", " "),
            HEALTH.get(name, ""),
            [_health_cell(values, name, level, sizes) for level in [*range(1, len(sizes) + 1), 0]],
        )
        for name in names
    ]


def _health_cell(values: dict[tuple[str, int, str], float | None], name: str, level: int, sizes: list[int]) -> Cell:
    if (name, level, OWN) not in values:
        return Cell("")
    value = values[name, level, OWN]
    of_controls = {control: values.get((name, level, control)) for control in (RANDOM, CATEGORY)}
    text = "-" if value is None else _figure(value)
    figures = {control: _figure(of) for control, of in of_controls.items() if of is not None}
    beside = [f"{control} {figure}" for control, figure in figures.items() if figure != text]
    if value is None:
        return Cell(text, "\n".join(["undefined", *beside]))
    size = sizes[level - 1] if name == "perplexity" and level else 1
    notes = [f"of {size}"] if name == "perplexity" else []
    return Cell(text, "\n".join(notes + beside), bar=min(1.0, value / size) if name in BARS else None)


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value > 2 and value == int(value) else f"{value:,.1f}" if value > 2 else number(value, 3)


def _measured(results: Results, variant: str, slice_name: str, metric: str) -> Cell:
    value = results.mean(variant, slice_name, metric)
    if value is None:
        return Cell("-", results.undefined_because(slice_name, metric))
    difference = results.against(variant, slice_name, metric)
    if difference is None:
        return Cell(number(value))
    found = _difference(difference)
    return Cell(number(value), f"{found.text}\n{found.note}", found.mark)


def _difference(difference: Difference | None) -> Cell:
    if difference is None:
        return Cell("-", "undefined")
    wins = f"\nbetter in {difference.wins} of {difference.seeds} seeds" if difference.seeds > 1 else ""
    return Cell(signed(difference.difference), interval(difference) + wins, _mark(difference))


def _mark(difference: Difference) -> str:
    if not difference.clear:
        return ""
    return "up" if difference.gain > 0 else "down"


def _population(results: Results, slice_name: str) -> list[Cell]:
    n, positives = (results.mean(results.variants[0], slice_name, metric) for metric in ("n", "positives"))
    if not n:
        return [Cell("0"), Cell("-")]
    return [Cell(f"{n:,.0f}"), Cell(f"{(positives or 0) / n:.1%}")]


def _sliced(results: Results, variant: str, slice_name: str, metric: str) -> Cell:
    value = results.mean(variant, slice_name, metric)
    if value is None:
        return Cell("-", results.undefined_because(slice_name, metric))
    difference = results.against(variant, slice_name, metric)
    error = results.stderr(variant, slice_name, metric)
    note = f"s.e. {number(error)}" if error else ""
    return Cell(number(value), note, _mark(difference) if difference else "")
