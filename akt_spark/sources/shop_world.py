"""The truth of the synthetic shop: item groups, what can be seen of them, and the latent vectors that decide clicks.

A group is a category, a colour and a shape. Its items share a point in latent space, and the same three things are
said in the title and drawn in the image: an encoder that understands them finds the groups without a single click.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

LATENT_DIM = 8
WITHIN_GROUP_NOISE = 0.35
ZIPF_EXPONENT = 1.2

# department, category, typical price, brands, nouns, what it is for
CATEGORIES = (
    ("Kitchen", "Teapots", 35.0, ("Brewhaus", "Kanto"), ("teapot", "kettle", "tea infuser"), "brewing a hot drink"),
    ("Footwear", "Running shoes", 90.0, ("Stride", "Velox"), ("sneakers", "running shoes", "trainers"), "a long run"),
    ("Music", "Guitars", 320.0, ("Lyra", "Fretwell"), ("guitar", "ukulele", "bass guitar"), "playing music"),
    ("Garden", "Plant pots", 18.0, ("Verdant", "Terra"), ("plant pot", "flower planter", "herb tub"), "growing plants"),
    (
        "Toys",
        "Puzzles",
        22.0,
        ("Pieceful", "Bright"),
        ("jigsaw puzzle", "board game", "building blocks"),
        "family play",
    ),
    ("Lighting", "Lamps", 48.0, ("Lumen", "Halo"), ("desk lamp", "lantern", "night light"), "reading at night"),
    ("Pets", "Dog beds", 55.0, ("Waggle", "Snout"), ("dog bed", "puppy cushion", "pet blanket"), "a sleepy dog"),
    ("Office", "Notebooks", 9.0, ("Folio", "Inkwell"), ("notebook", "paper journal", "diary"), "writing down ideas"),
    ("Travel", "Suitcases", 120.0, ("Nomad", "Transit"), ("suitcase", "travel bag", "backpack"), "a trip abroad"),
    (
        "Beauty",
        "Perfumes",
        65.0,
        ("Aurelle", "Fleur"),
        ("perfume", "eau de toilette", "body mist"),
        "smelling of flowers",
    ),
    ("Fishing", "Fishing rods", 80.0, ("Trout", "Castaway"), ("fishing rod", "reel", "tackle box"), "catching fish"),
    (
        "Computers",
        "Keyboards",
        70.0,
        ("Keyton", "Quert"),
        ("keyboard", "computer mouse", "webcam"),
        "working at a computer",
    ),
)
COLOURS = {
    "red": (205, 45, 45),
    "blue": (50, 85, 205),
    "green": (45, 150, 70),
    "yellow": (235, 200, 45),
    "black": (35, 35, 40),
    "pink": (240, 130, 180),
}
SHAPES = {"round": 0, "triangular": 3, "square": 4, "hexagonal": 6}  # corners of the drawn figure


@dataclass(frozen=True)
class ShopSize:
    """How large a synthetic shop is.

    Attributes:
        users: users with at least one session.
        items: items of the catalogue.
        groups: planted item groups; every two neighbours share a category.
        days: days of traffic.
        sessions_per_user: mean number of sessions; a few users have many, most have few.
        page: items shown in a session at most.
        cold_share: share of the items, and of the users, that first appear in the last days.
        cold_days: the last days in which they do.
        explore_days: the last days in which half of the traffic shows items at random, so that a rare item has enough
            test impressions to be measured; before them it is one impression in 50.
    """

    users: int = 300
    items: int = 200
    groups: int = 12
    days: int = 20
    sessions_per_user: float = 10.0
    page: int = 10
    cold_share: float = 0.1
    cold_days: int = 3
    explore_days: int = 5

    def __post_init__(self) -> None:
        most = len(CATEGORIES) * len(COLOURS) * len(SHAPES)
        if not 2 <= self.groups <= min(most, self.items):
            raise ValueError(
                f"groups is {self.groups}: it must lie in 2..{min(most, self.items)} (at most one an item)"
            )
        if min(self.users, self.page) < 1 or self.sessions_per_user < 1:
            raise ValueError("users, page and sessions_per_user must be at least 1")
        if not 0 < self.cold_days <= self.explore_days < self.days:
            found = f"{self.cold_days}, {self.explore_days}, {self.days}"
            raise ValueError(f"0 < cold_days <= explore_days < days must hold; they are {found}")


@dataclass(frozen=True)
class World:
    """Everything that a seed decides about the items; workers rebuild it instead of receiving it."""

    size: ShopSize
    seed: int

    @cached_property
    def group(self) -> np.ndarray:
        """(items,) int: the planted group of every item."""
        return self._rng("group").permutation(np.arange(self.size.items) % self.size.groups)

    @cached_property
    def group_centre(self) -> np.ndarray:
        """(groups, LATENT_DIM) unit vectors; groups of one category are closer to each other."""
        rng = self._rng("centre")
        category = rng.normal(size=(len(CATEGORIES), LATENT_DIM))
        own = rng.normal(size=(self.size.groups, LATENT_DIM))
        return _unit(0.7 * category[[look.category for look in self.looks]] + own)

    @cached_property
    def item_vector(self) -> np.ndarray:
        """(items, LATENT_DIM) unit vectors around the centre of their group."""
        noise = self._rng("item").normal(size=(self.size.items, LATENT_DIM)) / math.sqrt(LATENT_DIM)
        return _unit(self.group_centre[self.group] + WITHIN_GROUP_NOISE * noise)

    @cached_property
    def item_bias(self) -> np.ndarray:
        """(items,) the appeal of an item to everybody, in logits."""
        return 0.3 * self._rng("bias").normal(size=self.size.items)

    @cached_property
    def popularity(self) -> np.ndarray:
        """(items,) Zipf shares of the traffic, in random order of items; sums to 1."""
        weight = np.arange(1, self.size.items + 1) ** -ZIPF_EXPONENT
        return self._rng("popularity").permutation(weight / weight.sum())

    @cached_property
    def first_day(self) -> np.ndarray:
        """(items,) the day from which an item can be shown; cold items come in the last days, never earlier."""
        rng, size = self._rng("first_day"), self.size
        launch = np.where(rng.random(size.items) < 0.3, rng.integers(0, max(1, size.days // 2), size.items), 0)
        cold = rng.permutation(size.items) < round(size.cold_share * size.items)
        return np.where(cold, size.days - 1 - rng.integers(0, size.cold_days, size.items), launch)

    @cached_property
    def price(self) -> np.ndarray:
        """(items,) list prices around what is usual in the category."""
        usual = np.array([CATEGORIES[self.looks[group].category][2] for group in self.group])
        return np.round(usual * np.exp(0.3 * self._rng("price").normal(size=self.size.items)), 2)

    @cached_property
    def looks(self) -> list[Look]:
        """The category, colour and shape of every group, no two alike."""
        colours, shapes = list(COLOURS), list(SHAPES)
        looks = []
        for group in range(self.size.groups):
            round_, category = divmod(group // 2, len(CATEGORIES))
            look = 2 * round_ + group % 2  # of the category; the two groups of a round differ in colour and in shape
            colour = (category + look) % len(colours)
            # colours and shapes repeat together after 12 looks: shift the shapes by one from there on
            shape = (category + look + look // math.lcm(len(colours), len(shapes))) % len(shapes)
            looks.append(Look(category, colours[colour], shapes[shape]))
        return looks

    def _rng(self, what: str) -> np.random.Generator:
        return np.random.default_rng([self.seed, *what.encode()])


@dataclass(frozen=True)
class Look:
    """What can be seen of a group."""

    category: int
    colour: str
    shape: str


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
