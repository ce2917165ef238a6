"""Training of adapters and head on planted pairs, on a tiny model; killed and resumed, and stopped early."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from akt_spark.config import AlignmentConfig, EncoderConfig
from akt_spark.content.aligner import HeadAligner, TunedAligner
from akt_spark.content.alignment import Alignment, train_head, train_tuned, warmup_cosine
from akt_spark.content.alignment_batches import PairData
from akt_spark.content.encoders import encoder_spec
from akt_spark.content.encoders.lora import halves
from akt_spark.content.head import ProjectionHead
from akt_spark.errors import DataError
from content.test_alignment import CONFIG as HEAD_CONFIG
from content.test_alignment import pair_data
from content.tiny_qwen import tiny_qwen

ITEMS, GROUPS = 60, ("red", "shoe", "story", "help")
NOISE = "assistant system user helpful very long category running".split()


def titles() -> list[str]:
    """The group is one word, among others that tell nothing."""
    words = np.random.default_rng(2).choice(NOISE, (ITEMS, 5))
    return [" ".join([*words[n, :3], GROUPS[n % len(GROUPS)], *words[n, 3:]]) for n in range(ITEMS)]


TEXTS = titles()
CONFIG = AlignmentConfig(
    method="lora",
    dim=16,
    hidden=32,
    batch_size=64,
    epochs=2,
    recall_at=10,
    learning_rate=3e-3,
    lora={"rank": 4, "dropout": 0.05, "learning_rate": 1e-2, "micro_batch": 40, "checkpoint_steps": 2, "epochs": 2},
)


EVERY_STEP = [(epoch, step) for epoch in (1, 2) for step in range(3)]


class Texts:
    texts = TEXTS

    def images(self, rows):
        return [None] * len(rows)


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    folder = tiny_qwen(tmp_path_factory.mktemp("model") / "qwen2_vl", "qwen2_vl")
    return encoder_spec(EncoderConfig(family="qwen_vl", model=str(folder)))


@pytest.fixture(scope="module")
def data(spec) -> PairData:
    """Pairs inside groups; raw vectors tell the words of noise as well."""
    vectors = spec.load("cpu").encode(TEXTS, [None] * ITEMS).vectors
    a, b = np.triu_indices(ITEMS, 1)
    same = a % len(GROUPS) == b % len(GROUPS)
    pairs = np.random.default_rng(1).permutation(np.stack([a[same], b[same]], axis=1))
    return PairData(vectors, pairs[100:292], pairs[:100], np.zeros(ITEMS, dtype=np.int64))


def aligner(spec, data: PairData, config: AlignmentConfig = CONFIG) -> TunedAligner:
    torch.manual_seed(config.seed)
    head = ProjectionHead(spec.dim, config.hidden, config.dim)
    head.start_from(torch.from_numpy(data.vectors))
    return TunedAligner(spec.load("cpu"), spec.family, head, Texts(), config.lora, 32)


def weights(model: TunedAligner) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


def assert_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_tuning_finds_held_out_pairs_that_raw_vectors_and_a_head_do_not(spec, data):
    config = CONFIG.model_copy(update={"epochs": 6, "lora": CONFIG.lora.model_copy(update={"epochs": 6})})
    _, with_head = train_head(data, config)
    model = aligner(spec, data, config)
    metrics = train_tuned(model, data, config)
    assert metrics["recall_raw"] == with_head["recall_raw"]
    assert metrics["recall_aligned"] > max(metrics["recall_raw"], with_head["recall_aligned"]) + 0.15
    moved = {name for name, lora in model.adapters.items() if halves(lora)["up"].weight.any()}
    assert moved == {name for name in model.adapters if "visual" not in name}  # there are no images here


def test_the_micro_batch_changes_memory_and_not_the_result(spec, data):
    trained = []
    for size in (7, 1000):
        config = CONFIG.model_copy(
            update={"lora": CONFIG.lora.model_copy(update={"micro_batch": size, "dropout": 0.0, "epochs": 1})}
        )
        model = aligner(spec, data, config)
        assert len(model.parts(np.arange(ITEMS))) == -(-ITEMS // size)
        trained.append((train_tuned(model, data, config), weights(model))[1])
    for name, one in trained[0].items():
        torch.testing.assert_close(
            one, trained[1][name], atol=5e-4, rtol=0
        )  # Adam makes whole steps of rounding where a gradient is near zero


@pytest.mark.parametrize("killed_after", [2, 5])  # steps: in the first epoch, and in one with hard negatives
def test_a_killed_training_goes_on_from_its_checkpoint_to_equal_weights(
    spec, data, tmp_path, monkeypatch, killed_after
):
    file, done = tmp_path / "checkpoint.safetensors", []
    whole = aligner(spec, data)
    expected = train_tuned(whole, data, CONFIG)
    step = Alignment._step

    def counted(self, batches, epoch, number):
        if len(done) == killed_after:
            raise KeyboardInterrupt
        done.append((epoch, number))
        return step(self, batches, epoch, number)

    with monkeypatch.context() as patch:
        patch.setattr(Alignment, "_step", counted)
        with pytest.raises(KeyboardInterrupt):
            train_tuned(aligner(spec, data), data, CONFIG, file)
    assert file.is_file()

    again = aligner(spec, data)
    steps = []

    def noted(self, batches, epoch, number):
        steps.append((epoch, number))
        return step(self, batches, epoch, number)

    monkeypatch.setattr(Alignment, "_step", noted)
    assert train_tuned(again, data, CONFIG, file) == expected
    assert_equal(weights(again), weights(whole))
    assert steps == EVERY_STEP[killed_after:]  # of an epoch's 3 steps the second is saved, and the end
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
    steps.clear()
    assert train_tuned(aligner(spec, data), data, CONFIG, file) == expected  # killed after its end: nothing is left
    assert not steps


def test_the_epoch_that_found_most_pairs_is_the_one_that_is_kept(spec, data, monkeypatch):
    config = CONFIG.model_copy(update={"lora": CONFIG.lora.model_copy(update={"epochs": 3})})
    model, ends = aligner(spec, data, config), []

    def scripted(self, vectors, pairs):
        ends.append(weights(model))
        return (0.2, 0.9, 0.1, 0.0, 0.0)[len(ends) - 1]  # after each epoch; then raw and aligned

    monkeypatch.setattr(Alignment, "_recall", scripted)
    assert train_tuned(model, data, config)["epoch"] == 2
    assert_equal(weights(model), ends[1])
    assert any(not torch.equal(ends[1][name], ends[2][name]) for name in ends[1])


def test_training_stops_when_recall_does_not_rise_any_more(capsys):
    data = pair_data(planted=False)
    config = HEAD_CONFIG.model_copy(update={"patience": 2, "epochs": 20})
    _, metrics = train_head(data, config)
    epochs = capsys.readouterr().out.count("epoch ")
    assert epochs == metrics["epoch"] + 2 < 20


def test_hard_negatives_change_what_is_learned_from_the_second_epoch_on():
    data = pair_data(planted=True)

    def trained(count: int, epochs: int) -> np.ndarray:
        config = HEAD_CONFIG.model_copy(update={"hard_negatives": count, "epochs": epochs})
        return train_head(data, config)[0].project(data.vectors)

    np.testing.assert_array_equal(trained(0, 1), trained(4, 1))
    assert np.abs(trained(0, 2) - trained(4, 2)).max() > 1e-3


def test_a_diverged_training_names_the_rates(spec, data, monkeypatch):
    monkeypatch.setattr(HeadAligner, "forward", lambda self, items: self.head(self.raw[items]) * torch.nan)
    with pytest.raises(DataError, match=r"alignment head diverged in epoch 1: .*learning_rate \(0.003\)"):
        train_head(data, CONFIG)


def test_the_rate_rises_and_then_falls_as_a_cosine():
    rates = [warmup_cosine(step, 100, 0.1) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[10] == 1.0
    assert rates[55] == pytest.approx(0.5)
    assert rates[99] < 0.001
    assert warmup_cosine(0, 10, 0.0) == 1.0
