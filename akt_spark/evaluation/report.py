"""report: everything a run found -> index.html, which opens offline, and summary.json."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from akt_spark.evaluation import inputs, plots, semantic_plots, tables, wording
from akt_spark.evaluation.clusters import browse
from akt_spark.evaluation.embedding_map import embedding_map
from akt_spark.evaluation.frozen import frozen
from akt_spark.evaluation.results import Results
from akt_spark.evaluation.slices import FAMILIES, Family
from akt_spark.evaluation.summary import summary, to_json, write_atomically
from akt_spark.stage import Context, Outcome

CURVES = {
    "loss": "training loss (log loss)",
    "validation_auc": "validation AUC",
    "transfer_item": "transfer loss, items",
    "transfer_user": "transfer loss, users",
    "orthogonality": "orthogonality loss",
}
SLICED = {"auc": "AUC", "gauc_impr": "GAUC"}


def run(ctx: Context) -> Outcome:
    """Writes ``report.path``/index.html and summary.json.

    Raises:
        MissingInput: when the run was not evaluated.
    """
    started = time.monotonic()
    results = Results.load(ctx)
    stages, health = inputs.stage_runs(ctx), inputs.health(ctx)
    page = _render(_sections(ctx, results, stages, health))
    so_far = inputs.StageRun("report", round(time.monotonic() - started, 2), len(results.metrics), 2, 0)
    values = summary(ctx.run_id, ctx.ds.isoformat(), results, [*stages, so_far], health)
    write_atomically(_folder(ctx) / "summary.json", to_json(values))
    write_atomically(_folder(ctx) / "index.html", page)  # last: its presence says that the report is whole
    return Outcome(rows_in=len(results.metrics), rows_out=2, notes=[f"report: {_folder(ctx) / 'index.html'}"])


def terminal_table(ctx: Context) -> str:
    """What a night prints last: the variants, and where the report is."""
    lines = wording.comparison_lines(Results.load(ctx))
    return "\n".join([*lines, "", f"report: {_folder(ctx) / 'index.html'}"])


def _folder(ctx: Context) -> Path:
    return Path(ctx.config.report.path)


def _sections(
    ctx: Context, results: Results, stages: list[inputs.StageRun], health: list[inputs.Health]
) -> dict[str, Any]:
    """What the template shows, by name."""
    trained_on = frozen(ctx)
    gates, points = inputs.gates(ctx), inputs.curves(ctx)
    nights = inputs.health_over_nights(ctx)
    sizes = {entity: inputs.sizes(ctx, entity) for entity in ("item", "user")}
    whole = [name for family in FAMILIES.values() if not family.axis for name in family.places]
    return {
        "ds": ctx.ds,
        "facts": _facts(ctx, results, trained_on.items.count(), trained_on.users.count()),
        "variants": results.variants,
        "reference": results.reference,
        "verdicts": wording.verdicts(results),
        "caveats": wording.caveats(results),
        "headline_columns": [label for label, *_ in wording.HEADLINE],
        "headline": tables.headline(results),
        "controls": tables.controls(results),
        "drawn": plots.drawn(results),
        "sliced": [
            (label, tables.by_slice(results, metric, whole), plots.difference_plot(results, metric, label))
            for metric, label in SLICED.items()
        ],
        "gains": [_gains(results, name) for name, family in FAMILIES.items() if _measured(results, family)],
        "costs": tables.costs(inputs.costs(ctx), results),
        "kept": _kept(results),
        "health": [(entity, sizes[entity], tables.health(health, entity, sizes[entity])) for entity in sizes],
        "history": _drawn(semantic_plots.history_plot(nights, entity) for entity in sizes),
        "clusters": browse(trained_on.items, ctx.lake.read("bronze.items"), ctx.config.report),
        "map": semantic_plots.map_plot(embedding_map(ctx.lake, ctx.config.report.map_items)),
        "gates": _drawn(plots.gate_plot(gates, results, entity) for entity in sizes),
        "curves": _drawn(plots.curve_plot(points, results, metric, label) for metric, label in CURVES.items()),
        "calibration": tables.calibration(results),
        "stages": stages,
        "seconds": sum(stage.seconds for stage in stages),
        "versions": inputs.versions(),
    }


def _measured(results: Results, family: Family) -> bool:
    """Whether it has steps, and there are test impressions in them."""
    return family.axis is not None and not set(family.slices).isdisjoint(results.slices)


def _gains(results: Results, name: str) -> dict[str, Any]:
    """Plots and tables of a family whose slices are steps of one quantity."""
    places = FAMILIES[name].places
    return {
        "axis": FAMILIES[name].axis,
        "plots": _drawn(plots.gain_plot(results, name, metric, label) for metric, label in SLICED.items()),
        "tables": [(label, tables.by_slice(results, metric, places)) for metric, label in SLICED.items()],
    }


def _drawn(figures: Iterable[Markup | None]) -> list[Markup]:
    return [figure for figure in figures if figure is not None]


def _facts(ctx: Context, results: Results, items: int, users: int) -> list[tuple[str, str]]:
    """What ran, as (label, value)."""
    source, day = ctx.config.source, timedelta(days=1)
    train_end, validation_end = ctx.config.split.train_end(ctx.ds), ctx.config.split.validation_end(ctx.ds)
    n, positives, active = (results.mean(results.reference, "all", name) or 0 for name in ("n", "positives", "users"))
    return [
        ("data", f"{source.kind}: {source.path}"),
        ("training period", f"up to {train_end}"),
        ("validation", _period(train_end + day, validation_end)),
        ("test", _period(validation_end + day, ctx.ds)),
        ("items, users", f"{items:,}, {users:,}"),
        ("test impressions", f"{n:,.0f} of {active:,.0f} users"),
        ("clicked", f"{positives / n:.1%}" if n else "-"),
        ("training seeds", ", ".join(map(str, results.seeds))),
    ]


def _kept(results: Results) -> str:
    """GAUC leaves out users with one class; how many are left."""
    users, impressions = (
        results.mean(results.reference, "all", f"gauc_{name}_kept") or 0 for name in ("users", "impressions")
    )
    return (
        f"GAUC counts the {users:.0%} of test users who have both classes; they have {impressions:.0%} of impressions."
    )


def _period(first: date, last: date) -> str:
    return f"{first} to {last}" if first < last else str(first)


def _render(sections: dict[str, Any]) -> str:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,  # titles come from catalogues
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(sections)
