"""A measure of semantic IDs, and the controls that stand beside it."""

from __future__ import annotations

from typing import NamedTuple

OWN, RANDOM, CATEGORY = "none", "random", "category"
CONTROLS = {
    OWN: "the codebook's own IDs",
    RANDOM: "the same IDs permuted among the ids: what the sizes of clusters give without any meaning",
    CATEGORY: "the category path of the catalogue taken as ID, a level a code: what needs no model",
}


class Measure(NamedTuple):
    """One row of ``semantic.health``.

    Attributes:
        metric: its name.
        level: prefix length or level from 1; 0 for measures of the whole ID.
        value: null where it is not defined.
        control: a key of `CONTROLS`.
    """

    metric: str
    level: int
    value: float | None
    control: str = OWN
