"""Plots as inline SVG: text stays text, colours are told apart by colour-blind readers, markers differ too."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from akt_spark.evaluation.inputs import CurvePoint, GateBin
from akt_spark.evaluation.results import Results
from akt_spark.evaluation.significance import Difference
from akt_spark.evaluation.slices import FAMILIES, step

# Okabe and Ito's palette without its yellow, which is too light for thin lines.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P")
REFERENCE_COLOUR = "#595959"
DRAWN = 5  # variants in a plot, the reference apart: more could not be told from each other
SETTINGS = {
    "svg.fonttype": "none",
    "svg.hashsalt": "akt_spark",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#8a8f98",
    "axes.grid": True,
    "grid.color": "#e6e8eb",
    "axes.axisbelow": True,
    "legend.frameon": False,
}


@dataclass(frozen=True)
class Style:
    """How one variant is drawn, the same in every plot."""

    colour: str
    marker: str


def styles(results: Results) -> dict[str, Style]:
    """A style a variant; the reference is grey."""
    others = [name for name in results.variants if name != results.reference]
    drawn = {name: Style(COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]) for i, name in enumerate(others)}
    return drawn | {results.reference: Style(REFERENCE_COLOUR, "x")}


def drawn(results: Results) -> list[str]:
    """The variants that plots show: the first ones of the configuration, then the reference."""
    others = [name for name in results.variants if name != results.reference]
    return [*others[:DRAWN], results.reference]


def difference_plot(results: Results, metric: str, title: str) -> Markup | None:
    """Differences to the reference with their 95 % intervals, a row a slice; None when there is nothing to show.

    Slices that are steps of one quantity have plots of their own: `gain_plot`.
    """
    names = [name for family in FAMILIES.values() if not family.axis for name in family.slices]
    shown = _with_interval(results, names, metric)
    variants, rows = drawn(results)[:-1], [name for name in names if any(name == place for _, place in shown)]
    if not rows:
        return None

    def draw(axes: Axes) -> None:
        axes.axvline(0, color=REFERENCE_COLOUR, linewidth=1)
        for number, variant in enumerate(variants):
            style = styles(results)[variant]
            shift = (number - (len(variants) - 1) / 2) * min(0.22, 0.8 / len(variants))
            placed = [(y + shift, shown[variant, name]) for y, name in enumerate(rows) if (variant, name) in shown]
            for y, d in placed:
                axes.plot([d.lower, d.upper], [y, y], color=style.colour, linewidth=1.4, alpha=0.75)
            points = [d.difference for _, d in placed]
            axes.plot(points, [y for y, _ in placed], style.marker, color=style.colour, markersize=5, label=variant)
        axes.set_yticks(range(len(rows)), [name.replace("_", " ") for name in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(f"{title} minus that of {results.reference}")
        axes.figure.legend(loc="outside upper center", ncols=2)

    height = 1.1 + max(0.33, 0.1 * len(variants)) * len(rows)
    return svg(draw, (5.2, height), f"{title}: differences to {results.reference} by slice")


def _with_interval(results: Results, names: Iterable[str], metric: str) -> dict[tuple[str, str], Difference]:
    """Differences to the reference by (variant, slice) of the variants that are drawn.

    Slices with too few users for an interval are left out: one wild point would set the scale for all.
    """
    variants = drawn(results)[:-1]
    found = {(variant, name): results.against(variant, name, metric) for name in names for variant in variants}
    return {place: d for place, d in found.items() if d is not None and d.lower is not None}


def gain_plot(results: Results, name: str, metric: str, title: str) -> Markup | None:
    """Differences to the reference with their 95 % intervals against the steps of a family; None without any."""
    family = FAMILIES[name]
    steps = {place: "none" if place == family.none else step(place) for place in family.places}
    shown = _with_interval(results, steps, metric)
    variants, columns = drawn(results)[:-1], [place for place in steps if any(place == other for _, other in shown)]
    if not columns:
        return None

    def draw(axes: Axes) -> None:
        axes.axhline(0, color=REFERENCE_COLOUR, linewidth=1)
        for number, variant in enumerate(variants):
            style = styles(results)[variant]
            shift = (number - (len(variants) - 1) / 2) * 0.14
            placed = [(x + shift, shown[variant, name]) for x, name in enumerate(columns) if (variant, name) in shown]
            for x, d in placed:
                axes.plot([x, x], [d.lower, d.upper], color=style.colour, linewidth=1.4, alpha=0.75)
            points = [d.difference for _, d in placed]
            axes.plot([x for x, _ in placed], points, style.marker, color=style.colour, markersize=4.5, label=variant)
        rows = [results.mean(results.reference, place, "n") or 0 for place in columns]
        axes.set_xticks(
            range(len(columns)),
            [f"{steps[place]}\n{_short(n)}" for place, n in zip(columns, rows, strict=True)],
            fontsize=8.5,
        )
        axes.grid(axis="x", visible=False)
        axes.set_xlabel(f"{family.axis}\n(below: test impressions)")
        axes.set_ylabel(f"{title} minus that of {results.reference}")
        axes.figure.legend(loc="outside upper center", ncols=3)

    return svg(draw, (5.2, 3.5), f"{title}: differences to {results.reference} by {family.axis}")


def _short(count: float) -> str:
    """A count in four characters or so."""
    return f"{count:,.0f}" if count < 1_000 else f"{count / 1e3:.3g}k" if count < 999_500 else f"{count / 1e6:.3g}M"


def gate_plot(bins: Iterable[GateBin], results: Results, entity: str) -> Markup | None:
    """The gate against training impressions; the band holds the middle 80 % of the ids of the first variant."""
    of_entity = [gate for gate in bins if gate.entity == entity]
    variants = [name for name in results.variants if any(gate.variant == name for gate in of_entity)][:DRAWN]
    if not variants:
        return None

    def draw(axes: Axes) -> None:
        for variant in variants:
            style = styles(results)[variant]
            found = sorted((gate for gate in of_entity if gate.variant == variant), key=lambda g: g.impressions_from)
            x = [_centre(gate) for gate in found]
            axes.plot(x, [gate.mean for gate in found], color=style.colour, marker=style.marker, ms=4, label=variant)
            if variant == variants[0]:
                low, high = [gate.p10 for gate in found], [gate.p90 for gate in found]
                axes.fill_between(x, low, high, color=style.colour, alpha=0.15, linewidth=0)
        axes.set_xscale("symlog", linthresh=1)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.set_ylim(0, 1)
        axes.set_xlabel(f"impressions of the {entity} in training (log scale)")
        axes.set_ylabel("gate r: weight of the cluster part")
        axes.legend(fontsize=9)

    return svg(draw, (4.8, 3.2), f"activity gate of {entity}s against their impressions")


def _centre(gate: GateBin) -> float:
    """Geometric centre of a bin of whole numbers."""
    last = max(gate.impressions_from, gate.impressions_to - 1)
    return float(gate.impressions_from * last) ** 0.5


def curve_plot(points: Iterable[CurvePoint], results: Results, metric: str, label: str) -> Markup | None:
    """One training measure against steps: a line a variant and seed; a variant without that term (0) has no line."""
    of_metric = [point for point in points if point.metric == metric]
    variants = [name for name in drawn(results) if any(point.variant == name and point.value for point in of_metric)]
    if not variants:
        return None

    def draw(axes: Axes) -> None:
        for variant in variants:
            style = styles(results)[variant]
            for number, seed in enumerate(sorted({point.seed for point in of_metric if point.variant == variant})):
                line = [point for point in of_metric if (point.variant, point.seed) == (variant, seed)]
                marker = style.marker if len(line) <= 20 else None
                axes.plot(
                    [point.step for point in line],
                    [point.value for point in line],
                    color=style.colour,
                    marker=marker,
                    markersize=4,
                    linewidth=1.3,
                    alpha=0.9 if number == 0 else 0.45,
                    label=variant if number == 0 else None,
                )
        axes.set_xlabel("optimiser step")
        axes.set_ylabel(label)
        axes.legend(fontsize=9)

    return svg(draw, (4.8, 3.2), f"{label} against optimiser steps")


def svg(draw: Callable[[Axes], None], size: tuple[float, float], label: str) -> Markup:
    """Draws on a figure of its own and returns its <svg>, which grows and shrinks with the page."""
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.add_subplot())
        written = io.StringIO()
        figure.savefig(written, format="svg", transparent=True, metadata=dict.fromkeys(("Creator", "Date", "Format")))
    svg = written.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # ids are unique within one figure only; a page holds several
    prefix = "p" + re.sub(r"\W+", "", label)
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\g<1>{prefix}-", svg)
    return Markup(svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1))
