"""The synthetic shop: what is planted can be found, and it is the same from the same seed."""

from __future__ import annotations

import io
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pyspark.sql import SparkSession
from sklearn.metrics import roc_auc_score

from akt_spark.sources.shop import ShopSize, generate, main
from akt_spark.sources.shop_catalogue import draw_items
from akt_spark.sources.shop_traffic import chunks, draw_events, draw_users
from akt_spark.sources.shop_world import COLOURS, World

SIZE = ShopSize(users=600, items=100, groups=8, days=14)  # two chunks of users
START = date(2024, 3, 1)
DAY = pd.Timedelta(days=1)


@pytest.fixture(scope="module")
def shop(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    generate(spark, folder, SIZE, seed=3, start=START)
    return folder


@pytest.fixture(scope="module")
def events(shop: Path) -> pd.DataFrame:
    rows = pd.read_parquet(shop / "events.parquet").sort_values("event_id", ignore_index=True)
    return rows.assign(day=(rows["event_time"] - pd.Timestamp(START)) // DAY)


@pytest.fixture(scope="module")
def impressions(shop: Path, events: pd.DataFrame) -> pd.DataFrame:
    """Impressions with the true probability and whether they were clicked."""
    shown = events[events["event_type"] == "impression"]
    clicks = events[events["event_type"] == "click"][["user_id", "item_id", "event_time"]]
    pairs = shown.merge(clicks, on=["user_id", "item_id"], suffixes=("", "_click"))
    soon = (pairs["event_time_click"] - pairs["event_time"]).between(pd.Timedelta(0), pd.Timedelta(minutes=30))
    truth = pd.read_parquet(shop / "truth" / "impressions_truth.parquet")
    return shown.merge(truth, on="event_id", validate="one_to_one").assign(
        clicked=lambda rows: rows["event_id"].isin(pairs.loc[soon, "event_id"])
    )


def test_workers_write_what_the_seed_says(events: pd.DataFrame) -> None:
    world = World(SIZE, 3)
    drawn = pd.concat([draw_events(world, chunk) for chunk in range(chunks(world))])

    assert sorted(drawn["event_id"]) == list(events["event_id"])
    merged = events.merge(drawn, on="event_id", suffixes=("", "_drawn"))
    for column in ("user_id", "item_id", "event_type"):
        assert (merged[column] == merged[f"{column}_drawn"]).all()
    assert (merged["event_time"] == pd.Timestamp(START) + pd.to_timedelta(merged["second"], unit="s")).all()


def test_another_seed_is_another_shop() -> None:
    assert draw_events(World(SIZE, 3), 0).equals(draw_events(World(SIZE, 3), 0))
    assert not draw_events(World(SIZE, 3), 0).equals(draw_events(World(SIZE, 4), 0))
    assert not (World(SIZE, 3).group == World(SIZE, 4).group).all()


def test_the_oracle_ranks_clicks_well_and_is_calibrated(impressions: pd.DataFrame) -> None:
    assert 0.72 < roc_auc_score(impressions["clicked"], impressions["probability"]) < 0.88
    assert impressions["clicked"].mean() == pytest.approx(impressions["probability"].mean(), abs=0.02)


def test_popularity_has_a_head_and_a_tail_that_can_still_be_measured(impressions: pd.DataFrame) -> None:
    before = impressions[impressions["day"] < SIZE.days - SIZE.explore_days]
    counts = before["item_id"].value_counts()
    last_days = impressions[impressions["day"] >= SIZE.days - SIZE.explore_days]
    tail = last_days["item_id"].map(counts).fillna(0) < counts.quantile(0.3)

    assert counts.head(10).sum() > 0.5 * len(before)
    assert tail.mean() > 0.1
    assert not impressions.duplicated(["user_id", "item_id", "event_time"]).any()  # a page shows an item once


def test_cold_items_and_users_come_only_in_the_last_days(shop: Path, impressions: pd.DataFrame) -> None:
    items = pd.read_parquet(shop / "items.parquet", columns=["item_id", "first_seen"])
    cold_from = START + (SIZE.days - SIZE.cold_days) * DAY.to_pytimedelta()
    cold = set(items.loc[items["first_seen"] >= cold_from, "item_id"])
    first_day = impressions.groupby("item_id")["day"].min()
    user_first_day = impressions.groupby("user_id")["day"].min()

    assert len(cold) == 10
    assert first_day[first_day.index.isin(cold)].min() >= SIZE.days - SIZE.cold_days
    assert first_day.index.isin(cold).sum() >= 5
    shown = impressions.merge(items, on="item_id")
    assert (shown["event_time"].dt.date >= shown["first_seen"]).all()
    assert 0.05 < (user_first_day >= SIZE.days - SIZE.cold_days).mean() < 0.3


def test_what_follows_a_click_is_a_cart_then_a_purchase_at_its_price(shop: Path, events: pd.DataFrame) -> None:
    price = pd.read_parquet(shop / "items.parquet", columns=["item_id", "price"]).set_index("item_id")["price"]
    bought = events[events["event_type"] == "purchase"]
    counts = events["event_type"].value_counts()

    assert counts["impression"] > counts["click"] > counts["cart"] > counts["purchase"] > 0
    assert np.allclose(bought["value"], price[bought["item_id"]])
    assert events["event_time"].max() < pd.Timestamp(START) + SIZE.days * DAY


def test_words_and_drawings_show_the_group(shop: Path) -> None:
    world = World(SIZE, 3)
    items = pd.read_parquet(shop / "items.parquet")
    truth = pd.read_parquet(shop / "truth" / "items_truth.parquet")
    items = items.merge(truth, on="item_id", validate="one_to_one")
    looks = [world.looks[group] for group in items["group"]]

    assert len(set(world.looks)) == SIZE.groups
    assert all(f"{look.colour} {look.shape}" in title for look, title in zip(looks, items["title"], strict=True))
    assert items["image"].isna().mean() < 0.2
    for look, encoded in zip(looks, items["image"], strict=True):
        if encoded is not None:
            middle = Image.open(io.BytesIO(encoded)).getpixel((32, 32))
            assert np.abs(np.array(middle) - COLOURS[look.colour]).max() <= 15


def test_items_of_a_group_are_liked_by_the_same_users(impressions: pd.DataFrame) -> None:
    world = World(SIZE, 3)
    same = world.item_vector @ world.item_vector.T
    group = world.group[:, None] == world.group[None, :]
    np.fill_diagonal(group, False)

    assert same[group].mean() > 0.7 > 0.5 > same[world.group[:, None] != world.group[None, :]].mean()


def test_a_profile_tells_about_the_taste(shop: Path) -> None:
    users = pd.read_parquet(shop / "users.parquet").merge(pd.read_parquet(shop / "truth" / "users_truth.parquet"))
    ages = users["profile"].map(lambda profile: dict(profile)["age"])

    assert len(users) == SIZE.users
    assert pd.crosstab(users["group"], ages, normalize="index").max(axis=1).min() > 0.5


def test_every_size_has_different_looks_for_all_its_groups() -> None:
    assert len(set(World(ShopSize(items=300, groups=288), 1).looks)) == 288


def test_users_do_not_depend_on_how_many_there_are() -> None:
    few, many = draw_users(World(ShopSize(users=500), 1), 0), draw_users(World(ShopSize(users=5000), 1), 0)
    assert list(few["user_id"]) == list(many["user_id"])
    assert list(few["sessions"]) == list(many["sessions"])


def test_items_are_drawn_one_by_one() -> None:
    assert draw_items(World(SIZE, 3), 0, START).equals(draw_items(World(SIZE, 3), 0, START))


def test_an_impossible_size_is_refused_in_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--out", str(tmp_path), "--items", "5", "--groups", "9"])
    assert "groups is 9: it must lie in 2..5" in capsys.readouterr().err
