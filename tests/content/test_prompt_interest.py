"""The prompt user model, on tiny Qwen-VL models and on the embedded MiniLM."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from akt_spark.config import EncoderConfig
from akt_spark.content.encoders import encoder_spec
from akt_spark.content.encoders.language import language_of
from akt_spark.content.encoders.lora import halves
from akt_spark.content.encoding import Rows, encode_rows
from akt_spark.content.interest_training import train_interest
from akt_spark.content.next_click import variance_ratio
from akt_spark.content.prompt_interest import PromptEncoder, PromptInterest
from akt_spark.content.prompt_training import judged_clicks, train_prompt
from akt_spark.content.user_prompt import UserPrompt
from akt_spark.errors import ConfigError, DataError
from content.planted import DIM, GROUPS, USERS, prompt_config, prompt_data, unit
from content.test_qwen_vl import RED
from content.tiny_qwen import tiny_qwen

QWEN = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
ENCODING = EncoderConfig(batch_size=256)
NOBODY = UserPrompt("", [], np.empty((0, DIM), dtype=np.float32), (0, 0, 0))
PROMPTS = [
    UserPrompt("age 21", ["Shoes > Red shoe"], unit(1, DIM), (1, 1, 0)),
    UserPrompt("", [f"Hats > Blue hat {n}" for n in range(9)], unit(9, DIM, seed=1), (3, 4, 1)),
    NOBODY,
]


@pytest.fixture(scope="module")
def specs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    found = {"minilm_vl": encoder_spec(EncoderConfig())}
    for family in QWEN:
        model = str(tiny_qwen(folder / family, family))
        found[family] = encoder_spec(EncoderConfig(family="qwen_vl", model=model, max_pixels=4096))
    return found


@pytest.fixture(scope="module", params=["minilm_vl", *QWEN])
def model(specs, request) -> PromptInterest:
    """With adapters and projections that do something."""
    config = prompt_config({"titles": True, "max_tokens": 400})
    made = PromptInterest(specs[request.param], "cpu", config, DIM, GROUPS, seed=1)
    made.adapt()
    for adapter in made.adapters.values():
        torch.nn.init.normal_(halves(adapter)["up"].weight, std=0.05)
    return made.eval()


def vectors(model: PromptInterest, prompts: list[UserPrompt], batch_size: int = 64) -> np.ndarray:
    return model.encode(prompts, batch_size, 10_000)


def test_a_vector_does_not_depend_on_the_batch_and_its_padding(model):
    read = model.reader.read(PROMPTS)
    with torch.inference_mode():
        together = model(read)[0].numpy()
        apart = np.concatenate([model([one])[0].numpy() for one in read])
    np.testing.assert_allclose(together, apart, atol=1e-5)
    np.testing.assert_allclose(vectors(model, PROMPTS), apart, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)


def test_everything_in_a_prompt_reaches_the_vector(model):
    _, user, _ = PROMPTS
    changed = [
        replace(user, profile="age 22"),
        replace(user, labels=["Hats > Green hat", *user.labels[1:]]),
        replace(user, vectors=user.vectors[::-1].copy()),  # the same clicks in another order
        replace(user, vectors=np.concatenate([unit(1, DIM, seed=5), user.vectors[1:]])),
        replace(user, activity=(4, 4, 1)),
    ]
    first, *others = vectors(model, [user, *changed])
    assert min(np.abs(other - first).max() for other in others) > 1e-4


def test_a_saved_model_gives_the_same_vectors_and_holds_no_frozen_weight(model, tmp_path):
    model.save(tmp_path / "model")
    again = PromptInterest.load(model.base, "cpu", tmp_path / "model")
    np.testing.assert_allclose(vectors(again, PROMPTS), vectors(model, PROMPTS), atol=1e-5)
    assert sum(weight.numel() for weight in model.trained().values()) < 1_500_000
    assert not any(".base." in name for name in model.trained())


def test_a_row_that_cannot_be_read_gets_its_error_and_the_others_their_vectors(model):
    broken = replace(PROMPTS[0], vectors=unit(1, DIM + 1))
    rows = Rows([*PROMPTS, broken], [None] * 4)
    parts = list(encode_rows(PromptEncoder(model, "r"), rows, 64, 10_000))
    errors = {int(row): part.error for part in parts for row in part.rows}
    assert [errors[row] is None for row in range(4)] == [True, True, True, False]


@pytest.mark.parametrize("family", QWEN)
def test_tokens_have_the_positions_that_the_model_gives_text_also_after_it_has_seen_an_image(specs, family):
    encoder = specs[family].load("cpu")
    whole = encoder.model
    encoder.encode(["Title: Red shoe"], [RED])  # leaves its positions behind
    ids = torch.tensor([encoder.prompt.tokenizer.encode("a red shoe that runs", add_special_tokens=False).ids])
    mask = torch.ones_like(ids)
    with torch.inference_mode():
        expected = whole(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        language = language_of(encoder, "qwen_vl")
        states = language.states(language.table(ids), mask)
    torch.testing.assert_close(states, expected, atol=1e-5, rtol=0)


def test_the_interest_token_of_minilm_sees_all_clicks_and_those_of_qwen_the_past_only(specs):
    ids, later = torch.tensor([[5, 6, 7]]), torch.tensor([[5, 6, 9]])
    for name, sees_later in (("minilm_vl", True), ("qwen2_vl", False)):
        language = language_of(specs[name].load("cpu"), specs[name].family)
        with torch.inference_mode():
            first, second = (language.states(language.table(x), torch.ones_like(x)) for x in (ids, later))
        assert (not torch.allclose(first[:, 0], second[:, 0], atol=1e-6)) == sees_later


@pytest.fixture(scope="module")
def trained(specs):
    return train_prompt(prompt_data(), specs["qwen3_vl"], trained_config(), ENCODING, 12)


def trained_config(prompt: dict[str, object] | None = None, **changes: object):
    small = {"epochs": 2, "learning_rate": 1e-3, "dropout": 0.1}
    return prompt_config(small | (prompt or {}), **{"learning_rate": 1e-3, "batch_size": 16} | changes)


def test_the_model_learns_what_comes_next_better_than_the_mean_of_the_past(trained):
    _, metrics = trained
    assert metrics["recall_interest"] > metrics["recall_mean_pooled"] + 0.2
    assert metrics["variance_ratio"] > 0.3


def test_the_transformer_is_measured_beside_it_on_the_same_clicks(trained):
    _, metrics = trained
    _, alone = train_interest(prompt_data().clicks, trained_config(), 12)
    assert metrics["variance_ratio_transformer"] == alone["variance_ratio"]
    assert 0 < metrics["recall_transformer"] < 1
    assert (metrics["held_out_users"], metrics["held_out_clicks"]) == (12, 60)


def test_the_clicks_that_choose_an_epoch_do_not_judge_it():
    choosing, judged = judged_clicks(prompt_data(), 1)
    assert (len(choosing), len(judged), len(choosing.keys() & judged.keys())) == (12, 12, 0)
    assert all(cut > 0 for cuts in judged.values() for cut in cuts)


def test_training_reads_held_out_users_only_to_choose(specs):
    data, config = prompt_data(), trained_config({"epochs": 1})
    first, _ = train_prompt(data, specs["qwen2_vl"], config, ENCODING, 60)  # everything is found: epoch 0 is kept
    for user in np.flatnonzero(data.clicks.held_out):
        data.clicks.histories[user] = data.clicks.histories[user][::-1].copy()
    second, _ = train_prompt(data, specs["qwen2_vl"], config, ENCODING, 60)
    for name, weights in first.trained().items():
        torch.testing.assert_close(weights, second.trained()[name], rtol=0, atol=0)


@pytest.fixture(scope="module")
def plain(specs) -> PromptInterest:
    return last_epoch(specs["qwen2_vl"], trained_config({"epochs": 1}))


@pytest.mark.parametrize(
    "change",
    [
        {"loss": "cosine"},
        {"category_weight": 0.0},
        {"temperature": 0.5},
        {"prompt": {"add_mean": True}},
        {"prompt": {"rank": 2}},
        {"prompt": {"learning_rate": 1e-2}},
        {"prompt": {"titles": True}},
    ],
    ids=str,
)
def test_every_key_of_loss_and_prompt_changes_what_is_trained_and_the_revision(specs, plain, change):
    config = trained_config({"epochs": 1} | change.pop("prompt", {}), **change)
    other = last_epoch(specs["qwen2_vl"], config)
    assert other.content_hash() != plain.content_hash()
    weights = zip(plain.trained().values(), other.trained().values(), strict=True)
    assert not all(torch.equal(one, another) for one, another in weights)  # not only its description


def last_epoch(spec, config) -> PromptInterest:
    """Trained to the end, whatever the recall."""
    seen = iter(range(1000))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("akt_spark.content.prompt_training.recall_of", lambda *_: float(next(seen)))
        return train_prompt(prompt_data(), spec, config, ENCODING, 12)[0]


def test_gradients_of_small_parts_are_those_of_the_whole_batch(specs):
    small, whole = (
        last_epoch(specs["qwen2_vl"], trained_config({"epochs": 1, "dropout": 0.0, "micro_batch": size}))
        for size in (3, 16)
    )
    np.testing.assert_allclose(vectors(small, PROMPTS), vectors(whole, PROMPTS), atol=0.02)


def test_a_model_that_answers_everyone_alike_has_no_variance(trained):
    model, metrics = trained
    data = prompt_data()
    users = [data.prompt(user) for user in range(USERS)]
    assert variance_ratio(vectors(model, users), data.clicks.vectors) == pytest.approx(metrics["variance_ratio"])
    with torch.no_grad():
        model.next_vector.weight.mul_(1e-4)
    assert variance_ratio(vectors(model, users), data.clicks.vectors) < 1e-3


def test_without_anything_to_tell_there_is_an_error_that_names_the_window(specs):
    data = replace(prompt_data(period=1), profiles=[""] * USERS, days=[np.arange(6) * 3] * USERS)
    with pytest.raises(DataError, match=r"0 users to train on and 0 held out .* interest.days \(30\)"):
        train_prompt(data, specs["qwen2_vl"], trained_config(), ENCODING, 12)


def test_an_encoder_without_a_language_model_cannot_read_prompts(specs):
    with pytest.raises(
        ConfigError, match=r"encoder.family fake has no language model .* interest.model to transformer"
    ):
        language_of(specs["minilm_vl"].load("cpu"), "fake")


@pytest.mark.night
def test_minilm_learns_the_planted_pattern(specs):
    _, metrics = train_prompt(prompt_data(), specs["minilm_vl"], trained_config({"learning_rate": 1e-4}), ENCODING, 12)
    assert metrics["recall_interest"] > metrics["recall_mean_pooled"] + 0.2
