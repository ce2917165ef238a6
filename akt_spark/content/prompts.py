"""What an encoder reads about an item: one line of text from its catalogue row."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from akt_spark.config import fingerprint

DESCRIPTION_WORDS = 60
PROMPT_COLUMNS = ("title", "category", "brand", "price", "description")


def item_prompt(
    title: str | None,
    category: Sequence[str] | None = None,
    brand: str | None = None,
    price: float | None = None,
    description: str | None = None,
    statistics: str | None = None,
) -> str:
    """The text of an item (method.md 2.2), with statistics only for an encoder that was trained to read them.

    Absent fields leave no trace. Nothing depends on other items, and statistics are those of the training period, kept
    with the encoder: a vector is stale only when its own row changes.
    """
    fields = {
        "Title": title,
        "Category": " > ".join(part for part in category or () if part),
        "Brand": brand,
        "Price": price_band(price),
        "Stats": statistics,
        "Description": " ".join((description or "").split()[:DESCRIPTION_WORDS]),
    }
    return ". ".join(f"{name}: {text.strip()}" for name, text in fields.items() if text and text.strip())


def row_prompt(row: Mapping[str, Any]) -> str:
    """The text of a catalogue row: PROMPT_COLUMNS, and ``statistics`` where there are any."""
    return item_prompt(*(row[name] for name in PROMPT_COLUMNS), statistics=row.get("statistics"))


def price_band(price: float | None) -> str | None:
    """A coarse band of the 1-2-5 series: 37.9 is ``20 to 50``; None where there is no usable price."""
    if price is None or not math.isfinite(price) or price <= 0:
        return None
    decade = 10.0 ** math.floor(math.log10(price))
    edges = [decade * step for step in (1, 2, 5, 10)]
    low, high = next(((a, b) for a, b in pairwise(edges) if price < b), edges[-2:])
    return f"{low:g} to {high:g}"


def prompt_fingerprint() -> str:
    """Changes whenever the template changes: it hashes prompts of fixed rows."""
    words = " ".join(f"w{n}" for n in range(200))
    return fingerprint(item_prompt("t", ["a", "b"], "b", 37.9, words), item_prompt("t"), price_band(0.04))
