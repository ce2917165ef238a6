"""The catalogue of the synthetic shop: words, prices and drawn photos that show an item's group."""

from __future__ import annotations

import io
from datetime import date, timedelta

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from akt_spark.sources.shop_world import CATEGORIES, COLOURS, SHAPES, Look, World

BLOCK = 500  # items that a worker makes at a time
IMAGE_SIZE = 64
MISSING_IMAGES = 0.05
MATERIALS = ("cotton", "steel", "oak", "glass", "nylon")
ADJECTIVES = ("classic", "modern", "compact", "handmade", "premium", "light", "sturdy", "simple")


def item_ids(numbers: np.ndarray) -> np.ndarray:
    """Catalogue ids of item numbers."""
    return np.char.add("i", np.char.zfill(numbers.astype(str), 6))


def blocks(world: World) -> int:
    """Number of blocks of items."""
    return -(-world.size.items // BLOCK)


def draw_items(world: World, block: int, start: date) -> pd.DataFrame:
    """Catalogue rows of a block of items, and the group of each; ``start`` is the first day of traffic."""
    rows = []
    for number in range(block * BLOCK, min((block + 1) * BLOCK, world.size.items)):
        rng = np.random.default_rng([world.seed, 4, number])
        look = world.looks[world.group[number]]
        own = {
            "item_id": item_ids(np.array([number]))[0],
            "price": world.price[number],
            "first_seen": start + timedelta(days=int(world.first_day[number])),
            "group": world.group[number],
        }
        rows.append(own | _describe(look, rng) | {"image": _draw(look, rng)})
    return pd.DataFrame(rows)


def _describe(look: Look, rng: np.random.Generator) -> dict[str, object]:
    """Title, description, category path, brand and attributes of one item.

    Colour and shape are in the words and in the photo only: no attribute gives the group away.
    """
    department, category, _, brands, nouns, purpose = CATEGORIES[look.category]
    adjective, noun = rng.choice(ADJECTIVES), rng.choice(nouns)
    return {
        "title": f"{adjective} {look.colour} {look.shape} {noun}".capitalize(),
        "description": f"{look.shape} {noun} in {look.colour}, made for {purpose}.".capitalize(),
        "category": [department, category],
        "brand": str(rng.choice(brands)),
        "attributes": {"material": str(rng.choice(MATERIALS))},
    }


def _draw(look: Look, rng: np.random.Generator) -> bytes | None:
    """A photo of the item, as PNG: its shape in its colour, never twice the same; None for the few without a photo."""
    if rng.random() < MISSING_IMAGES:
        return None
    image = Image.new("RGB", (IMAGE_SIZE, IMAGE_SIZE), tuple(int(tone) for tone in rng.integers(225, 250, 3)))
    canvas = ImageDraw.Draw(image)
    radius = IMAGE_SIZE * rng.uniform(0.28, 0.42)
    x, y = IMAGE_SIZE / 2 + rng.uniform(-5, 5, size=2)
    colour = tuple(int(np.clip(tone + rng.integers(-15, 16), 0, 255)) for tone in COLOURS[look.colour])
    corners = SHAPES[look.shape]
    if corners == 0:
        canvas.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
    else:
        canvas.regular_polygon((x, y, radius), corners, rotation=float(rng.uniform(-15, 15)), fill=colour)
    encoded = io.BytesIO()
    image.save(encoded, format="PNG")
    return encoded.getvalue()
