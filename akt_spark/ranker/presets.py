"""AKT-Rec, its ablations and its rivals by name: overrides of `ModelConfig` on one backbone.

A variant of the configuration names one with ``preset``; its other keys come on top. What a preset leaves alone
(widths, dropout, lengths, rates) is the same for all. The page docs/rivals.md is written from here:

    python -m akt_spark.ranker.presets > docs/rivals.md
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Preset:
    """One model.

    Attributes:
        what: what it computes, in one line; e is an embedding, d the row of an id, c its cluster part, z content.
        source: where that comes from, and what of it is ours.
        overrides: of ``ranker.model``.
    """

    what: str
    source: str
    overrides: dict[str, Any]


WITHOUT_CODES: dict[str, Any] = {  # an embedding is the row of its id, and nothing else
    "cluster_mode": "none",
    "transfer": False,
    "orthogonality": 0.0,
    "agreement": 0.0,
    "activity_dropout": 0.0,
    "monotone_prior": 0.0,
    "block_tail_prefix": False,
    "prefix_members": 0,
}
# what a ranker without clusters is: attention and hard search by category and statistics, the paper's "online base"
BASE: dict[str, Any] = {
    "recent_pooling": "attention",
    "attention_activation": "relu",
    "attention_softmax": True,
    "hard_search": "category",
    "history_embedding": "individual",
    "statistics": True,
    "tower": "mlp",
    "wide": False,
    "id_dropout": 0.0,
    "id_dropout_below": 0,
    "tail_preference": 0.0,
    **WITHOUT_CODES,
    "mix": "gate",
    "content_start": False,
    "codes": "semantic",
    "codes_of": ["item"],
    "transfer_cold": True,
    "transfer_stop_gradient": True,
    "orthogonality_stop_cluster": False,
    "aggregation": False,
    "aggregation_gate": "learned",
    "cluster_means": "snapshot",
    "residual_instance": True,
    "content": [],
    "match_counts": [],
    "aligned_content": False,
    "content_branch": "none",
    "pretrain_epochs": 0,
}
PLAIN = BASE | {"statistics": False, "hard_search": "none"}
AKT_REC = BASE | {
    "hard_search": "sid",
    "cluster_mode": "hybrid",
    "gate": "learned",
    "gate_floor": 0.2,
    "transfer": True,
    "students": "sampler",
    "transfer_optimiser": "own",
    "teacher": "fused",
    "lambda_student": 1.0,
    "lambda_teacher": 0.0,
    "orthogonality": 0.02,
    "aggregation": True,
    "content": ["similarity"],
}

PRESETS: dict[str, Preset] = {
    "recommended": Preset(
        "hybrid c of items, gate with a floor, one-way transfer from fused teachers, aggregation, simtier's histogram",
        "AKT-Rec (arXiv 2605.23310) with our changes: method.md 11",
        AKT_REC,
    ),
    "paper": Preset(
        "c a second row of items and users, both ways 0.1 : 1 in the batch, only the fused view in the tower, no z",
        "our reading of AKT-Rec; every number is ours, the paper gives none",
        AKT_REC
        | {
            "codes_of": ["item", "user"],
            "cluster_mode": "per_id",
            "normalise_cluster": False,
            "gate_floor": 0.0,
            "teacher": "cluster",
            "lambda_teacher": 0.1,
            "students": "batch",
            "transfer_optimiser": "tables",
            "residual_instance": False,
            "content": [],
        },
    ),
    "base": Preset(
        "attention over the recent history and what shares the target's category, statistics, e = d",
        "the paper's online base as we read it; its attention has a softmax and ReLU",
        BASE,
    ),
    "dnn": Preset(
        "MLP of embeddings and the mean of the history",
        "the start of DIN's comparison",
        PLAIN | {"recent_pooling": "mean"},
    ),
    "wide_deep": Preset(
        "dnn + a weight an id and attribute", "Cheng et al. 2016", PLAIN | {"recent_pooling": "mean", "wide": True}
    ),
    "din": Preset(
        "attention of the target over the recent history, Dice, scores without softmax",
        "Zhou et al. 2018; what they have, and FuxiCTR by default",
        PLAIN | {"attention_activation": "dice", "attention_softmax": False},
    ),
    "sim": Preset(
        "attention over the recent history, and over what shares the target's category",
        "SIM, hard search (Pi et al. 2020)",
        PLAIN | {"hard_search": "category"},
    ),
    "mmoe": Preset("base, h(sum_k g_k(x) E_k(x))", "Ma et al. 2018, one task", BASE | {"tower": "experts"}),
    "poso": Preset(
        "base, every layer times 2 sigmoid(MLP(activity))", "arXiv 2108.04690, for MLPs", BASE | {"tower": "poso"}
    ),
    "dropoutnet": Preset(
        "base + z, rows of ids left out in half of the samples, of ids shown fewer than 10 times in all",
        "Volkovs et al. 2017; within a click model it is ours",
        BASE | {"id_dropout": 0.5, "id_dropout_below": 10, "content": ["item", "history"]},
    ),
    "tailnet": Preset(
        "base, logit + log R of the item's type, R from the history; heads are the most shown fifth",
        "Liu and Zheng 2020 (arXiv 2007.12329); pointwise it is ours",
        BASE | {"tail_preference": 1.0},
    ),
    "learn": Preset(
        "base + z of the item, of the history, and their product",
        "LEARN (arXiv 2405.03988); the mean of the history in place of a user model is ours",
        BASE | {"content": ["item", "history", "interest"]},
    ),
    "simtier": Preset(
        "base + histogram of cosines between target and history",
        "SimTier (arXiv 2407.19467)",
        BASE | {"content": ["similarity"]},
    ),
    "prefix_counts": Preset(
        "base + counts of the history's items that share 1, 2, ... codes with the target, no z",
        "ours: what simtier does, by semantic IDs",
        BASE | {"match_counts": ["sid"]},
    ),
    "make": Preset(
        "base + a click model of z of target and history, trained alone for three epochs before, then with the rest",
        "MAKE (arXiv 2407.19467); epochs and widths are ours",
        BASE | {"content_branch": "trained", "pretrain_epochs": 3},
    ),
    "saviorrec": Preset(
        "base + z moved by zero-started rows of its codes, attention in both directions",
        "SaviorRec (arXiv 2508.01375), our reading",
        BASE | {"aligned_content": True},
    ),
    "qarm": Preset(
        "base, e = d + a row of every code, also in the history",
        "QARM; its codes are of residual k-means: set semantic.item.kind to rqkmeans",
        BASE | {"cluster_mode": "codes", "mix": "sum", "history_embedding": "fused"},
    ),
    "kl_gate": Preset(
        "base, e = T d + (1 - T) q, T = n / (n + kappa), q of the prefix; T KL(sg(d), q) + (1 - T) KL(d, sg(q))",
        "method.md 7; softmax over the width and kappa are ours",
        BASE | {"cluster_mode": "prefix", "gate": "shrinkage", "gate_floor": 0.0, "agreement": 0.1},
    ),
    "content_concat": Preset("base + z of item and history", "control", BASE | {"content": ["item", "history"]}),
    "prefix_ngram": Preset(
        "base, e = d + sum_l E_l[first l codes]",
        "arXiv 2504.02137",
        BASE | {"cluster_mode": "prefix", "mix": "sum", "history_embedding": "fused"},
    ),
    "tiger_codes": Preset(
        "base, e = sum_l E_l[code l], also in the history: no row of an id",
        "TIGER knows items by rows of their codes alone; as a click model it is ours",
        BASE | {"cluster_mode": "codes", "mix": "cluster", "history_embedding": "fused"},
    ),
    "prefix_residual": Preset(
        "base, e = gate of d and hybrid c, no transfer",
        "ours: the simplest sharing, the one to beat",
        BASE | {"cluster_mode": "hybrid", "gate": "learned", "gate_floor": 0.2},
    ),
    "random_sid": Preset(
        "recommended, codes dealt to other ids",
        "control: what sharing rows gives without meaning",
        AKT_REC | {"codes": "random"},
    ),
}


def page() -> str:
    """The page docs/rivals.md."""
    lines = [
        "# Rankers by name",
        "",
        "Written by `python -m akt_spark.ranker.presets`. A variant names one of these with `preset`, and may change "
        "more: `ranker.variants={base: {preset: base}, wide: {preset: din, dim: 32}}`. All share one backbone, data, "
        "order of samples, widths and rates. `e` is an embedding, `d` the row of an id, `c` its cluster part, `z` "
        "the content vector, `sg` a stop-gradient.",
        "",
        "| preset | what it computes | source |",
        "|---|---|---|",
        *(f"| `{name}` | {preset.what} | {preset.source} |" for name, preset in PRESETS.items()),
        "",
        "## Keys",
        "",
        "What each preset sets of `ranker.model`, where it differs from `base`:",
        "",
        "| preset | keys |",
        "|---|---|",
        *(f"| `{name}` | {_keys(preset)} |" for name, preset in PRESETS.items() if name != "base"),
    ]
    return "\n".join(lines)


def _keys(preset: Preset) -> str:
    changed = {key: value for key, value in preset.overrides.items() if BASE.get(key) != value}
    return ", ".join(f"`{key}: {_yaml(value)}`" for key, value in changed.items())


def _yaml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value).replace("'", "")


if __name__ == "__main__":
    print(page())
