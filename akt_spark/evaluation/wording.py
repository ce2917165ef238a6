"""Figures in words: terminal tables and the sentences that say which differences can be told from zero."""

from __future__ import annotations

from collections.abc import Callable

from akt_spark.evaluation.results import Results
from akt_spark.evaluation.significance import Difference

HEADLINE = (
    ("AUC", "all", "auc"),
    ("GAUC", "all", "gauc_impr"),
    ("GAUC by user", "all", "gauc_user"),
    ("tail AUC", "tail", "auc"),
    ("head AUC", "head", "auc"),
    ("log loss", "all", "logloss"),
)
CELL = 16


def number(value: float | None, digits: int = 4) -> str:
    """A figure, or a dash where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"


def signed(value: float | None, digits: int = 4) -> str:
    """A difference with its sign; none on zero."""
    if value is None:
        return "-"
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0 else text


def interval(difference: Difference) -> str:
    """The 95 % interval, or why there is none."""
    if difference.lower is None or difference.upper is None:
        return f"no interval: {difference.users} users"
    return f"{signed(difference.lower)} to {signed(difference.upper)}"


def comparison_lines(results: Results) -> list[str]:
    """The table of variants for a terminal: mean over seeds, and the difference to the reference behind it."""
    width = max(len(f"{name} (reference)") for name in results.variants)
    lines = [" " * width + "".join(f"  {label:<{CELL}}" for label, *_ in HEADLINE).rstrip()]
    for variant in results.variants:
        name = f"{variant} (reference)" if variant == results.reference else variant
        cells = [f"  {_cell(results, variant, *place):<{CELL}}" for _, *place in HEADLINE]
        lines.append(f"{name:<{width}}" + "".join(cells).rstrip())
    seeds = len(results.seeds)
    lines.append(
        f"mean over {seeds} training seed{'s' * (seeds != 1)}; behind it the difference to {results.reference}, "
        "* where its 95 % interval over users excludes zero"
    )
    return lines


def _cell(results: Results, variant: str, slice_name: str, metric: str) -> str:
    value = number(results.mean(variant, slice_name, metric))
    difference = results.against(variant, slice_name, metric)
    return f"{value} {signed(difference.difference)}{'*' * difference.clear}" if difference else value


def verdicts(results: Results) -> list[str]:
    """One plain sentence a variant against the reference, from the figures alone."""
    variants = [name for name in results.variants if name != results.reference]
    return [f"{name} against {results.reference}: {_verdict(results, name)}." for name in variants]


def _verdict(results: Results, variant: str) -> str:
    compared = [(label, results.against(variant, *place)) for label, *place in HEADLINE]
    kinds: dict[str, Callable[[Difference], bool]] = {
        "better on": lambda d: d.clear and d.gain > 0,
        "worse on": lambda d: d.clear and d.gain < 0,
        "no clear difference on": lambda d: d.lower is not None and not d.clear,
        "too few users to say on": lambda d: d.lower is None,
    }
    parts = []
    for phrase, holds in kinds.items():
        names = [f"{label} ({signed(d.difference)})" for label, d in compared if d is not None and holds(d)]
        if names:
            parts.append(f"{phrase} {_listed(names)}")
    return "; ".join(parts) or "nothing to compare"


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def caveats(results: Results) -> list[str]:
    """What the intervals do not cover."""
    seeds = len(results.seeds)
    notes = [
        "The 95 % intervals come from resampling test users; they are not adjusted for looking at many of them "
        "(p_holm in evaluation.differences is)."
    ]
    if seeds == 1:
        notes.append(
            "Every variant was trained once. How much a result moves with the training seed is not in the intervals: "
            "believe a small difference only after more seeds (training.seeds)."
        )
    else:
        notes.append(
            f"Differences are means over {seeds} paired training seeds; the intervals do not cover the choice of seeds."
        )
    return notes
