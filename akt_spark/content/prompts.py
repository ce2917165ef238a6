"""What an encoder reads about an item: one line of text from its catalogue row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from akt_spark.config import fingerprint

DESCRIPTION_WORDS = 60


def item_prompt(
    title: str | None,
    category: Sequence[str] | None = None,
    brand: str | None = None,
    price: float | None = None,
    description: str | None = None,
) -> str:
    """The text of an item (method.md 2.2), without statistics: the encoder is frozen and could not learn to read them.

    Absent fields leave no trace. Nothing depends on other items, so a vector is stale only when its own row changes.
    """
    fields = {
        "Title": title,
        "Category": " > ".join(part for part in category or () if part),
        "Brand": brand,
        "Price": price_band(price),
        "Description": " ".join((description or "").split()[:DESCRIPTION_WORDS]),
    }
    return ". ".join(f"{name}: {text.strip()}" for name, text in fields.items() if text and text.strip())


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
