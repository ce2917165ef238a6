"""The interest model on tensors."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from akt_spark.config import InterestConfig
from akt_spark.content.interest import InterestModel
from akt_spark.content.interest_training import expected, held_out_clicks, interests, train_interest
from akt_spark.content.next_click import ClickData, recall_of, variance_ratio
from content.planted import DIM, GROUPS, click_data, unit

CONFIG = InterestConfig(history=8, heads=2, profile_buckets=20, epochs=20, batch_size=32, learning_rate=1e-2)


@pytest.fixture(scope="module")
def trained() -> tuple[InterestModel, dict[str, float], ClickData]:
    data = click_data()
    return *train_interest(data, CONFIG, recall_k=12), data


def test_the_model_learns_what_comes_next_better_than_the_mean_of_the_past(trained):
    _, metrics, _ = trained
    assert metrics["recall_interest"] > metrics["recall_mean_pooled"] + 0.2


def test_a_profile_alone_tells_where_a_user_will_start(trained):
    model, _, data = trained
    nothing = np.empty((0, DIM), dtype=np.float32)
    cold = model.encode([nothing] * GROUPS, [[group + 1] for group in range(GROUPS)])
    nearest = (cold @ data.vectors.T).argmax(axis=1) % GROUPS
    assert nearest.tolist() == list(range(GROUPS))


def test_a_user_vector_does_not_depend_on_the_batch_and_its_padding(trained):
    model, _, _ = trained
    histories = [unit(3, DIM, seed=1), unit(8, DIM, seed=2), np.empty((0, DIM), dtype=np.float32)]
    profiles = [[1, 2], [], [3]]
    together = model.encode(histories, profiles)
    apart = np.concatenate([model.encode([h], [p]) for h, p in zip(histories, profiles, strict=True)])
    np.testing.assert_allclose(together, apart, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)


def test_a_prediction_sees_only_the_clicks_before_it(trained):
    model, _, _ = trained
    history = torch.from_numpy(unit(1, 6, DIM))
    changed = history.clone()
    changed[:, 4:] = torch.from_numpy(unit(1, 2, DIM, seed=9))
    with torch.inference_mode():
        before, after = (model.eval()(h, [[1]])[0][0] for h in (history, changed))
    torch.testing.assert_close(before[:5], after[:5])
    assert (before[5] - after[5]).abs().max() > 1e-3


def test_the_variance_ratio_is_near_zero_for_a_model_that_answers_everyone_alike(trained):
    model, metrics, data = trained
    assert metrics["variance_ratio"] > 0.5
    assert variance_ratio(interests(model, data, 32), data.vectors) == pytest.approx(metrics["variance_ratio"])
    assert variance_ratio(np.repeat(unit(1, DIM), 50, axis=0), data.vectors) < 1e-6


def test_the_epoch_is_chosen_by_some_held_out_users_and_judged_by_the_others():
    data, config = click_data(), CONFIG.model_copy(update={"epochs": 4, "learning_rate": 0.3})  # too fast to settle
    choosing, judged = held_out_clicks(data, config.seed)
    assert set(choosing) | set(judged) == set(np.flatnonzero(data.held_out))
    assert not set(choosing) & set(judged)
    model, metrics = train_interest(data, config, 12)
    reached = []
    for epochs in range(1, 5):
        alone = train_interest(data, config.model_copy(update={"epochs": epochs}), 12, choosing={})[0]
        reached.append(recall_of(expected(alone, data, choosing), choosing, data, 12))
    assert metrics["epoch"] == 4 - reached[::-1].index(max(reached))
    assert recall_of(expected(model, data, choosing), choosing, data, 12) == max(reached)


def test_training_does_not_read_held_out_users():
    data = click_data()
    config = CONFIG.model_copy(update={"epochs": 1})
    first, _ = train_interest(data, config, 12)
    for user in np.flatnonzero(data.held_out):
        data.histories[user] = data.histories[user][::-1].copy()
    second, _ = train_interest(data, config, 12)
    for name, weights in first.state_dict().items():
        torch.testing.assert_close(weights, second.state_dict()[name], rtol=0, atol=0)


def test_a_saved_model_answers_the_same(trained, tmp_path):
    model, _, _ = trained
    model.save(tmp_path / "interest")
    again = InterestModel.load(tmp_path / "interest")
    history = [unit(4, DIM)]
    np.testing.assert_array_equal(again.encode(history, [[2]]), model.encode(history, [[2]]))


@pytest.mark.parametrize("change", [{"loss": "cosine"}, {"category_weight": 0.0}, {"temperature": 0.5}])
def test_every_key_of_the_loss_has_an_effect(change):
    data, config = click_data(), CONFIG.model_copy(update={"epochs": 1})
    first, _ = train_interest(data, config, 12)
    second, _ = train_interest(data, config.model_copy(update=change), 12)
    assert not torch.equal(first.item.weight, second.item.weight)
