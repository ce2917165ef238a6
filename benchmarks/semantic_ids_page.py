"""docs/semantic_ids.md, made from the results of benchmarks/semantic_ids.py: no figure is typed by hand.

python benchmarks/semantic_ids_page.py > docs/semantic_ids.md
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
HEAD = """# Semantic IDs on real data

Made by `python benchmarks/semantic_ids_page.py` from `benchmarks/results/semantic_ids_*.json`, which
`python benchmarks/semantic_ids.py` writes. What the measures mean: [semantic_health.md](semantic_health.md).

Recall is the share of held-out co-clicked (or co-purchased) pairs whose second item is among the 50 nearest of the
first. The pairs are of the training period; half of the held-out ones chose the epoch, these figures are of the rest.
"""
HEALTH = {  # metric, level: what the page calls it
    ("coverage", 1): "codes of level 1 in use",
    ("clusters", 1): "clusters of level 1",
    ("median_cluster_size", 1): "items in the median cluster",
    ("head_coverage", 1): "students with a teacher in their cluster",
    ("collision", 0): "collision of whole IDs",
    ("unexplained_variance", 0): "unexplained variance",
    ("neighbour_agreement", 1): "neighbours in one cluster",
    ("purity", 1): "purity against the leaf category",
    ("nmi", 1): "mutual information with it (nmi)",
    ("co_occurrence_recall", 1): "co-clicked pairs in one cluster",
}
LORA = ("recall_head", "recall_aligned")
SEGMENTS = ("head", "mid", "tail")
METHODS = {"head": "a head on frozen vectors", "lora": "LoRA and a head"}


def page(results: Path = RESULTS) -> str:
    """The whole page."""
    files = sorted(results.glob("semantic_ids_*.json"))
    return "\n".join([HEAD, *(line for file in files for line in _data_set(file))])


def _data_set(file: Path) -> Iterator[str]:
    result = json.loads(file.read_text())
    rows = result["rows"]
    (catalogue,) = _of(rows, "catalogue")
    yield f"## {file.stem.removeprefix('semantic_ids_')}\n"
    machine = result["machine"]
    yield (
        f"{catalogue['items']:,} items, {catalogue['with_image']:,} of them with an image; `{result['note']}`, commit "
        f"{result['code']}, {machine['cores']} cores, {machine['memory_gib']:.0f} GiB.\n"
    )
    yield from _alignment(_of(rows, "alignment"))
    yield from _users(_of(rows, "alignment"), _of(rows, "users"))
    yield from _quantizers(_of(rows, "quantizer"))
    yield from _refresh(_of(rows, "quantizer"))
    yield from _cost(rows)


def _of(rows: list[dict], part: str) -> list[dict]:
    return [row for row in rows if row["part"] == part]


def _alignment(rows: list[dict]) -> Iterator[str]:
    yield "### What alignment and images give\n"
    yield from _table(
        ["images", "trained", "raw", "aligned", "pairs judged"],
        [
            [
                "yes" if row["images"] else "no",
                METHODS[row["method"]] + (" (refused)" if "refused" in row else ""),
                _share(row["item"]["recall_raw"]),
                _share(row["item"]["recall_aligned"]),
                f"{_judged(row):,}",
            ]
            for row in rows
        ],
    )
    with_lora = [row for row in rows if "recall_head" in row["item"]]
    if with_lora:
        settings = ", ".join(f"`{one}`" for one in with_lora[0]["settings"])
        yield f"LoRA was trained with {settings}: on fewer pairs, and judged by fewer. Of these a head alone,\n"
    for row in with_lora:
        images, alone, tuned = "with" if row["images"] else "without", *map(row["item"].get, LORA)
        yield (
            f"- {images} images, finds {_share(alone)}; LoRA from there on finds {_share(tuned)}, which is "
            f"{_difference(alone, tuned, _judged(row))}"
        )
    if with_lora:
        yield ""
    by_images = {row["images"]: row for row in rows if row["method"] == "head"}
    if len(by_images) == 2:
        yield from (
            _added(by_images, name, what) for name, what in (("recall_raw", "raw"), ("recall_aligned", "aligned"))
        )
        yield ""
        covered = by_images[True]["item"]
        yield "Pairs cover {}.\n".format(
            ", ".join(f"{covered[f'coverage_{s}']:.1%} of {covered[f'items_{s}']:,.0f} {s} items" for s in SEGMENTS)
        )


def _users(rows: list[dict], prompts: list[dict]) -> Iterator[str]:
    """Next clicks of users that nothing was trained on."""
    yield "### What users' vectors find\n"
    yield "The next click among the 50 nearest items, of users that neither model was trained on.\n"
    (head,) = (row["user"] for row in rows if row["method"] == "head" and row["images"])
    lines = [["the mean of the clicks", head["recall_mean_pooled"], head]]
    lines += [["transformer over aligned vectors (LEARN's form)", head["recall_interest"], head]]
    lines += [["the language model, on a prompt", row["user"]["recall_interest"], row["user"]] for row in prompts]
    yield from _table(
        ["users' vectors", "recall", "variance against items", "users judged"],
        [
            [name, _share(recall), _share(of["variance_ratio"]) if n else "-", f"{of['held_out_users']:,.0f}"]
            for n, (name, recall, of) in enumerate(lines)
        ],
    )
    for row in prompts:
        settings = ", ".join(f"`{one}`" for one in row["settings"])
        yield (
            f"The prompt's model was trained with {settings}; on its users the mean of clicks finds "
            f"{_share(row['user']['recall_mean_pooled'])}, the transformer "
            f"{_share(row['user'].get('recall_transformer'))}.\n"
        )


def _refresh(rows: list[dict]) -> Iterator[str]:
    """How many IDs another seed moves, after the names were taken over."""
    first = {(m["metric"], m["level"]): m["value"] for m in rows[0]["measures"] if m["control"] == "none"}
    levels = [level for metric, level in first if metric == "churn"]
    if levels:
        yield "### What a refresh moves\n"
        yield f"The same quantiser ({rows[0]['kind']}) on the same vectors with another seed, after its names agree.\n"
        yield from _table(
            ["prefix of", "IDs that move", "adjusted Rand index"],
            [[f"{n} codes", _share(first[("churn", n)]), _share(first[("adjusted_rand", n)])] for n in sorted(levels)],
        )


def _added(by_images: dict[bool, dict], metric: str, what: str) -> str:
    """What images add to a recall."""
    without, together = (by_images[images]["item"][metric] for images in (False, True))
    return f"Images change recall of {what} vectors by {_difference(without, together, _judged(by_images[True]))}."


def _difference(before: float, after: float, pairs: int) -> str:
    """Of two recalls; the interval takes the two for independent, which is too wide for equal pairs."""
    reach = 1.96 * math.sqrt((before * (1 - before) + after * (1 - after)) / pairs)
    clear = "more than chance" if abs(after - before) > reach else "no more than chance could"
    return f"{after - before:+.3f} (± {reach:.3f}): {clear}"


def _judged(row: dict) -> int:
    return round(row["item"]["held_out_pairs"] / 2)


def _quantizers(rows: list[dict]) -> Iterator[str]:
    yield "### Health by quantiser\n"
    found = [{(m["metric"], m["level"]): m["value"] for m in row["measures"] if m["control"] == "none"} for row in rows]
    yield from _table(
        ["", *(row["kind"] for row in rows)],
        [[name, *(_number(values.get(place)) for values in found)] for place, name in HEALTH.items()],
    )


def _cost(rows: list[dict]) -> Iterator[str]:
    yield "### What each step costs\n"
    (night,) = _of(rows, "night")
    yield f"A whole night from nothing, images used: {night['minutes']:.0f} minutes.\n"
    yield from _table(["stage of the night", "seconds"], [[n, f"{s:,.0f}"] for n, s in night["stages"].items()])
    named = [(row["stage"] + ", nothing new", row) for row in _of(rows, "step")]
    named += [
        (f"align_encoder, {METHODS[row['method']]}, {'with' if row['images'] else 'without'} images", row)
        for row in _of(rows, "alignment")
    ]
    named += [("align_encoder, the prompt's user model", row) for row in _of(rows, "users")]
    named += [(f"build_semantic_ids, {row['kind']}", row) for row in _of(rows, "quantizer")]
    yield from _table(["step", "seconds"], [[name, f"{row['stage_seconds']:,.0f}"] for name, row in named])
    yield "The first `align_encoder` of each kind of input embeds the catalogue too, and LoRA's what it has changed.\n"


def _table(head: list[str], lines: list[list[str]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    yield from ("| " + " | ".join(line) + " |" for line in lines)
    yield ""


def _share(value: Any) -> str:
    return "-" if value is None else f"{value:.3f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}" if value > 2 else f"{value:.3f}"


if __name__ == "__main__":
    print(page(), end="")
