"""Plots of semantic IDs: the map of the item vectors, and health over nights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import date
from itertools import pairwise

import numpy as np
from markupsafe import Markup
from matplotlib import colormaps
from matplotlib.axes import Axes

from akt_spark.evaluation.embedding_map import EmbeddingMap
from akt_spark.evaluation.inputs import NightlyHealth
from akt_spark.evaluation.plots import COLOURS, MARKERS, svg

NAMED = 12  # clusters that the map names
OVER_NIGHTS = {
    ("coverage", 1): "codes of level 1 in use",
    ("head_coverage", 1): "students with a teacher",
    ("unexplained_variance", 0): "unexplained variance",
    ("neighbour_agreement", 1): "neighbours with one first code",
    ("co_occurrence_recall", 1): "co-clicked pairs with one first code",
}


def map_plot(found: EmbeddingMap | None) -> Markup | None:
    """Items as points coloured by first code; the largest clusters are named by it and their commonest category."""
    if found is None:
        return None
    codes, sizes = np.unique(found.codes, return_counts=True)
    # neighbouring clusters on the map get colours far apart: by the angle of their centre, dealt out over the wheel
    centres = np.stack([np.median(found.places[found.codes == code], axis=0) for code in codes])
    angle = np.argsort(np.arctan2(*(centres - found.places.mean(axis=0)).T))
    hue = np.empty(len(codes))
    hue[angle] = (np.arange(len(codes)) * 0.382) % 1  # the golden ratio: any few in a row differ

    def draw(axes: Axes) -> None:
        colours = colormaps["turbo"](0.08 + 0.84 * hue[np.searchsorted(codes, found.codes)])
        axes.scatter(*found.places.T, s=7, c=colours, linewidths=0)
        for number in np.argsort(-sizes, kind="stable")[:NAMED]:
            text = axes.annotate(_name(found, codes[number]), centres[number], ha="center", va="center", fontsize=7.5)
            text.set_bbox({"boxstyle": "round,pad=0.2", "facecolor": "white", "edgecolor": "none", "alpha": 0.8})
        axes.set_xticks([])
        axes.set_yticks([])
        axes.grid(visible=False)
        for spine in axes.spines.values():
            spine.set_visible(False)

    return svg(draw, (8.2, 5.6), "map of item embeddings coloured by the first code")


def _name(found: EmbeddingMap, code: int) -> str:
    leaves = Counter(leaf for leaf, of in zip(found.categories, found.codes, strict=True) if of == code and leaf)
    return f"{code}: {leaves.most_common(1)[0][0]}" if leaves else str(code)


def history_plot(nights: Iterable[NightlyHealth], entity: str) -> Markup | None:
    """Measures of health against days, a line each; None before there are two nights."""
    of_entity = [night for night in nights if night.entity == entity and night.value is not None]
    days = sorted({night.ds for night in of_entity})
    lines = [place for place in OVER_NIGHTS if any((night.metric, night.level) == place for night in of_entity)]
    if len(days) < 2:
        return None

    def draw(axes: Axes) -> None:
        for number, place in enumerate(lines):
            line = sorted((night.ds, night.value) for night in of_entity if (night.metric, night.level) == place)
            style = {"color": COLOURS[number], "marker": MARKERS[number], "markersize": 3.5, "linewidth": 1.3}
            axes.plot(*zip(*line, strict=True), label=OVER_NIGHTS[place], **style)
        for day in _refreshes(of_entity):
            axes.axvline(day, color="#8a8f98", linewidth=1, linestyle=":")
        axes.set_ylim(0, 1.02)
        axes.tick_params(axis="x", rotation=30)
        axes.figure.legend(loc="outside upper center", ncols=2, fontsize=8.5)

    return svg(draw, (5.2, 3.9), f"health of {entity} IDs over nights")


def _refreshes(nights: list[NightlyHealth]) -> list[date]:
    """Days on which another codebook was measured than on the day before."""
    versions = dict(sorted((night.ds, night.codebook_version) for night in nights))
    days = list(versions)
    return [day for before, day in pairwise(days) if versions[before] != versions[day]]
