"""The words and tokens of a user's prompt."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from akt_spark.config import EncoderConfig
from akt_spark.content.encoders import encoder_spec
from akt_spark.content.encoders.language import language_of, text_only
from akt_spark.content.user_prompt import INTEREST, ITEM, PromptReader, UserPrompt, band
from akt_spark.errors import ConfigError
from content.planted import DIM, prompt_config, prompt_data, unit


@pytest.fixture(scope="module")
def language():
    spec = text_only(encoder_spec(EncoderConfig()))
    return language_of(spec.load("cpu"), spec.family)


def reader(language, **prompt) -> PromptReader:
    return PromptReader(language, prompt_config({"titles": True, **prompt}))


def words(language, ids: list[int]) -> str:
    shown = {ITEM: "[ITEM]", INTEREST: "[INT]"}
    return " ".join(shown.get(token) or language.tokenizer.id_to_token(token) for token in ids)


USER = UserPrompt("age 21", ["Shoes > Red shoe", "Hats > Blue hat"], unit(2, DIM), (2, 3, 0))


def test_a_prompt_tells_profile_clicks_oldest_first_and_activity_and_ends_in_the_interest_token(language):
    (read,) = reader(language).read([USER])
    assert words(language, read.ids) == (
        "[CLS] profile : age 21 | last 30 days , oldest to newest : shoes > red shoe [ITEM] hats > blue hat [ITEM] "
        "| active days 2 to 3 , clicks 4 to 7 , buys 0 | next interest : [INT] [SEP]"
    )
    assert not read.truncated
    np.testing.assert_array_equal(read.vectors, USER.vectors)


def test_without_titles_and_window_a_click_is_its_vector_alone(language):
    (read,) = PromptReader(language, prompt_config(days=None)).read([replace(USER, profile="")])
    assert "profile : unknown | clicks , oldest to newest : [ITEM] [ITEM] |" in words(language, read.ids)


def test_what_does_not_fit_are_the_oldest_clicks_and_never_the_interest_token(language):
    labels = [f"kind > thing {n}" for n in range(100)]
    many = UserPrompt("age 21", labels, unit(100, DIM), (9, 9, 9))
    (read,) = reader(language, max_tokens=96).read([many])
    assert len(read.ids) <= 96
    assert read.truncated
    assert read.ids[-2] == INTEREST
    kept = read.ids.count(ITEM)
    assert 1 < kept < 100
    np.testing.assert_array_equal(read.vectors, many.vectors[-kept:])
    told = words(language, read.ids)
    assert "thing 99 [ITEM]" in told
    assert f"thing {99 - kept} [ITEM]" not in told


def test_a_long_profile_leaves_room_for_clicks(language):
    (read,) = reader(language, max_tokens=96).read([replace(USER, profile="word " * 500)])
    assert len(read.ids) <= 96
    assert read.truncated
    assert read.ids.count(ITEM) == 2


def test_a_long_title_is_cut_and_a_special_token_in_it_is_words(language):
    labels = ["long " * 50, "[SEP] [MASK]"]
    (read,) = reader(language, title_tokens=5).read([replace(USER, labels=labels)])
    told = words(language, read.ids)
    assert "newest : long long long long long [ITEM]" in told
    assert read.ids.count(language.closing[0]) == 1


@pytest.mark.parametrize("tokens", [40, 513])
def test_a_length_that_holds_no_click_or_that_the_model_cannot_read_is_refused(language, tokens):
    with pytest.raises(ConfigError, match=rf"interest.prompt.max_tokens is {tokens}: .* reads 512 at most"):
        reader(language, max_tokens=tokens)


def test_bands_are_powers_of_two():
    assert [band(n.bit_length()) for n in (0, 1, 2, 3, 4, 7, 8)] == ["0", "1", "2 to 3", "2 to 3"] + ["4 to 7"] * 2 + [
        "8 to 15"
    ]


def test_a_prompt_before_a_click_tells_only_what_was_known_on_earlier_days_and_of_earlier_clicks():
    data = prompt_data(period=2)
    before = data.prompt(0, 4)  # on day 34, a click a day since day 30
    history = data.clicks.histories[0]
    np.testing.assert_array_equal(before.vectors, data.clicks.vectors[history[2:4]])
    assert before.labels == [data.labels[item] for item in history[2:4]]
    assert before.activity == [2, 2, 0]  # 2 days and 2 clicks take 2 bits
    changed = prompt_data(period=2)
    changed.clicks.histories[0][4:] = 0
    changed.activity[0][4:, 1] = 99
    assert changed.prompt(0, 4).labels == before.labels
    assert changed.prompt(0, 4).activity == before.activity


def test_where_nothing_is_known_there_is_nothing_to_read():
    data = prompt_data(period=1)
    data.profiles[0] = ""
    data.days[0] = np.array([10, 20, 21, 35, 36, 38])
    assert data.readable(0).tolist() == [2, 4]
    assert data.readable(1).tolist() == [0, 1, 2, 3, 4, 5]  # has a profile
    assert (data.known(0), data.known(1)) == (False, True)
