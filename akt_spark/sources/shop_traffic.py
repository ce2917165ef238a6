"""Users of the synthetic shop and what they do: sessions of impressions, clicks, carts and purchases.

Users are drawn in chunks of fixed size, each from its own random stream, so that any number of workers gives the same
shop. ``p(click) = sigmoid(SCALE * user . item + bias of the item + OFFSET)``: nothing else decides a click.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from akt_spark.sources.shop_catalogue import item_ids
from akt_spark.sources.shop_world import LATENT_DIM, World

CHUNK = 500  # users a random stream
USER_GROUPS = 8
TASTES = 2  # item groups that a user group likes
SCALE, OFFSET = 3.5, -1.8
EXPLORED, EXPLORED_BEFORE = 0.5, 0.02  # share of random impressions in the last days, and before them
CART_AFTER_CLICK, PURCHASE_AFTER_CART = 0.25, 0.4
PROFILE = {
    "age": ("18-24", "25-34", "35-44", "45-54", "55+"),
    "region": ("north", "east", "south", "west"),
    "device": ("phone", "tablet", "desktop"),
}
PROFILE_TELLS_GROUP = 0.7  # otherwise a profile value is random
SECONDS_A_DAY = 86_400
EVENT_COLUMNS = ("event_id", "user_id", "item_id", "event_type", "second", "event_order", "value", "probability")


def user_ids(numbers: np.ndarray) -> np.ndarray:
    """Log ids of user numbers."""
    return np.char.add("u", np.char.zfill(numbers.astype(str), 8))


def chunks(world: World) -> int:
    """Number of chunks of users."""
    return -(-world.size.users // CHUNK)


def draw_users(world: World, chunk: int) -> pd.DataFrame:
    """The users of a chunk: user_id, group, profile, vector (LATENT_DIM), first_day and sessions (their number)."""
    size, rng = world.size, np.random.default_rng([world.seed, 1, chunk])
    numbers = np.arange(chunk * CHUNK, min((chunk + 1) * CHUNK, size.users))
    group = rng.integers(0, USER_GROUPS, len(numbers))
    vector = _taste(world)[group] + 0.4 * rng.normal(size=(len(numbers), LATENT_DIM)) / np.sqrt(LATENT_DIM)
    cold = rng.random(len(numbers)) < size.cold_share
    first_day = np.where(
        cold,
        size.days - 1 - rng.integers(0, size.cold_days, len(numbers)),
        rng.integers(0, size.days - size.cold_days, len(numbers)) * (rng.random(len(numbers)) < 0.3),
    )
    # a Pareto tail: most users come now and then, a few all the time; whoever is new has had less time
    sessions = 1 + (size.sessions_per_user - 1) * rng.pareto(2.0, len(numbers)) * (1 - first_day / size.days)
    return pd.DataFrame(
        {
            "user_id": user_ids(numbers),
            "group": group,
            "profile": _profiles(group, rng),
            "vector": list(vector / np.linalg.norm(vector, axis=1, keepdims=True)),
            "first_day": first_day,
            "sessions": np.minimum(sessions, 8.0 * (size.days - first_day)).astype(int),
        }
    )


def draw_events(world: World, chunk: int) -> pd.DataFrame:
    """All events of the users of a chunk, in EVENT_COLUMNS.

    ``second`` counts from the start of the first day. ``probability`` is the true p(click) of an impression, null for
    other events. The impressions of a page have one time and an ``event_order``.
    """
    users, rng = draw_users(world, chunk), np.random.default_rng([world.seed, 2, chunk])
    impressions = _impressions(world, users, rng)
    user_vector = np.stack(users["vector"])[impressions["user"]]
    affinity = np.einsum("nd,nd->n", user_vector, world.item_vector[impressions["item"]])
    probability = 1 / (1 + np.exp(-(SCALE * affinity + world.item_bias[impressions["item"]] + OFFSET)))
    impressions["probability"] = probability

    clicks = _later(impressions[rng.random(len(impressions)) < probability], "click", 10, 170, rng)
    carts = _later(clicks[rng.random(len(clicks)) < CART_AFTER_CLICK], "cart", 10, 170, rng)
    purchases = _later(carts[rng.random(len(carts)) < PURCHASE_AFTER_CART], "purchase", 60, 600, rng)
    purchases["value"] = world.price[purchases["item"]]

    events = pd.concat([impressions, clicks, carts, purchases], ignore_index=True)
    # the end of the last day is the end of the log: whatever would come later has not happened yet
    events = events[events["second"] < world.size.days * SECONDS_A_DAY]
    events["user_id"] = users["user_id"].to_numpy()[events["user"]]
    events["item_id"] = item_ids(events["item"].to_numpy())
    order = events.groupby("user").cumcount().astype(str).str.zfill(5)
    events["event_id"] = "e" + events["user_id"].str[1:] + "-" + order
    return events[list(EVENT_COLUMNS)]


def _taste(world: World) -> np.ndarray:
    """(USER_GROUPS, LATENT_DIM): the middle of the item groups that a user group likes."""
    rng = np.random.default_rng([world.seed, 3])
    liked = [rng.choice(world.size.groups, TASTES, replace=False) for _ in range(USER_GROUPS)]
    taste = np.stack([world.group_centre[groups].sum(axis=0) for groups in liked])
    return taste / np.linalg.norm(taste, axis=1, keepdims=True)


def _profiles(group: np.ndarray, rng: np.random.Generator) -> list[dict[str, str]]:
    columns = {}
    for name, values in PROFILE.items():
        telling = rng.random(len(group)) < PROFILE_TELLS_GROUP
        columns[name] = np.array(values)[np.where(telling, group, rng.integers(0, 1_000, len(group))) % len(values)]
    return [
        dict(zip(columns, row, strict=True))
        for row in zip(*(column.tolist() for column in columns.values()), strict=True)
    ]


def _impressions(world: World, users: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Sessions spread over each user's days, a page of up to `page` different items each."""
    size = world.size
    user = np.repeat(np.arange(len(users)), users["sessions"])
    first = users["first_day"].to_numpy()[user]
    day = first + rng.integers(0, size.days - first)
    start = day * SECONDS_A_DAY + rng.integers(6 * 3600, 23 * 3600, len(user))

    shown = rng.integers(1, size.page + 1, len(user))
    session = np.repeat(np.arange(len(user)), shown)
    pages = pd.DataFrame({"session": session, "item": _shown_items(world, day[session], rng)})
    pages = pages.drop_duplicates(ignore_index=True)
    return pd.DataFrame(
        {
            "user": user[pages["session"]],
            "item": pages["item"],
            "event_type": "impression",
            "second": start[pages["session"]],
            "event_order": pages.groupby("session").cumcount().astype("float64"),
            "value": np.nan,
        }
    )


def _shown_items(world: World, day: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(n,) item numbers: popular ones by Zipf, some uniformly, none before its first day."""
    items, draws, random = np.empty(len(day), dtype=np.int64), rng.random(len(day)), rng.random(len(day))
    for today in np.unique(day):
        rows = np.flatnonzero(day == today)
        live = np.flatnonzero(world.first_day <= today)
        last_days = today >= world.size.days - world.size.explore_days
        uniform = random[rows] < (EXPLORED if last_days else EXPLORED_BEFORE)
        shares = np.cumsum(world.popularity[live])
        popular = live[np.minimum(np.searchsorted(shares / shares[-1], draws[rows], side="right"), len(live) - 1)]
        items[rows] = np.where(uniform, live[(draws[rows] * len(live)).astype(int)], popular)
    return items


def _later(before: pd.DataFrame, event_type: str, least: int, most: int, rng: np.random.Generator) -> pd.DataFrame:
    """What follows events some seconds later."""
    second = before["second"] + rng.integers(least, most, len(before))
    return before.assign(event_type=event_type, second=second, event_order=np.nan, probability=np.nan)
