from __future__ import annotations

import math

import pytest

from akt_spark.content import prompts
from akt_spark.content.prompts import item_prompt, price_band


def test_the_prompt_names_every_field_that_is_there_and_no_other():
    assert item_prompt("Red shoe", ["Wear", "Shoes"], "Acme", 37.9, "Soft.") == (
        "Title: Red shoe. Category: Wear > Shoes. Brand: Acme. Price: 20 to 50. Description: Soft."
    )
    assert item_prompt("Red shoe", [], " ", None, None) == item_prompt("Red shoe") == "Title: Red shoe"


def test_a_description_is_shortened():
    assert item_prompt("t", description="word " * 500).count("word") == prompts.DESCRIPTION_WORDS


@pytest.mark.parametrize(
    ("price", "band"),
    [(1.0, "1 to 2"), (37.9, "20 to 50"), (50.0, "50 to 100"), (999.99, "500 to 1000"), (0.03, "0.02 to 0.05")],
)
def test_prices_fall_into_the_1_2_5_series(price, band):
    assert price_band(price) == band


@pytest.mark.parametrize("price", [None, 0.0, -3.0, math.nan, math.inf])
def test_an_unusable_price_has_no_band(price):
    assert price_band(price) is None


def test_another_template_has_another_fingerprint(monkeypatch):
    before = prompts.prompt_fingerprint()
    monkeypatch.setattr(prompts, "DESCRIPTION_WORDS", 10)
    assert prompts.prompt_fingerprint() != before
