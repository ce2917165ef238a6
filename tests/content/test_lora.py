"""Adapters on tiny encoders: they change nothing before training, and a saved one gives the trained vectors."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest
import torch
from torch import nn

from akt_spark.config import EncoderConfig, LoraConfig
from akt_spark.content.aligner import TunedAligner
from akt_spark.content.artifacts import load_model, save_state
from akt_spark.content.encoders import encoder_spec
from akt_spark.content.encoders.lora import attach, halves
from akt_spark.content.encoders.tuned import TunedSpec
from akt_spark.content.head import ProjectionHead
from akt_spark.errors import ConfigError
from content.test_qwen_vl import BLUE, RED
from content.tiny_qwen import tiny_qwen

TEXTS = ["Title: Red shoe", "Title: Blue shoe that runs", "thing " * 20, "x"]
PHOTOS = [RED, None, RED[: len(RED) // 2], BLUE]  # the third is cut off
LORA = LoraConfig(rank=4, alpha=8.0, dropout=0.0, micro_batch=2)


class Items:
    texts = TEXTS

    def images(self, rows):
        return [PHOTOS[row] for row in rows]


@pytest.fixture(scope="module", params=["qwen2_vl", "qwen2_5_vl", "qwen3_vl", "gme", "minilm_vl"])
def spec(request, tmp_path_factory):
    if request.param == "minilm_vl":
        return encoder_spec(EncoderConfig())
    folder = tiny_qwen(tmp_path_factory.mktemp("model") / request.param, request.param)
    return encoder_spec(EncoderConfig(family="qwen_vl", model=str(folder), max_pixels=4096))


def aligner(spec, encoder) -> TunedAligner:
    torch.manual_seed(1)
    return TunedAligner(encoder, spec.family, ProjectionHead(spec.dim, 16, 8), Items(), LORA, 64)


def test_training_moves_only_adapters_and_a_saved_adapter_gives_the_trained_vectors(spec, tmp_path):
    encoder = spec.load("cpu")
    raw = encoder.encode(TEXTS, PHOTOS).vectors
    model = aligner(spec, encoder)
    everything = np.arange(len(TEXTS))
    np.testing.assert_allclose(model.encode(everything).detach().numpy(), raw, atol=1e-6)
    learned = [p for group in model.parameter_groups(0.1) for p in group["params"]]
    frozen = {name: p.clone() for name, p in model.lora.named_parameters() if ".base_layer." in name}
    optimizer = torch.optim.AdamW(learned, lr=0.05)
    for _ in range(3):
        optimizer.zero_grad()
        (model.encode(everything) ** 2 @ torch.linspace(0, 1, spec.dim)).sum().backward()
        optimizer.step()
    trained = model.eval().encode(everything).detach().numpy()
    assert np.abs(trained - raw).max() > 1e-3
    assert all(torch.equal(p, frozen[name]) for name, p in model.lora.named_parameters() if ".base_layer." in name)

    about = {"lora": {"rank": 4, "alpha": 8.0}, "trained_until": "2024-01-25", "statistics": None}
    save_state(tmp_path / "tuned", model.adapter_state(), about)
    tuned = TunedSpec.read(spec, tmp_path / "tuned")
    np.testing.assert_allclose(tuned.load("cpu").encode(TEXTS, PHOTOS).vectors, trained, atol=1e-5)
    assert (tuned.family, tuned.dim, tuned.trained_until) == (spec.family, spec.dim, date(2024, 1, 25))
    assert tuned.revision == tuned.load("cpu").revision != spec.revision
    assert sorted(path.name for path in (tmp_path / "tuned").iterdir()) == ["model.json", "weights.safetensors"]


def test_language_projections_and_the_vision_merger_get_gradients(spec):
    model = aligner(spec, spec.load("cpu")).train()
    model(np.arange(len(TEXTS))).sum().backward()
    reached = {name for name, lora in model.adapters.items() if halves(lora)["up"].weight.grad is not None}
    assert reached == set(model.adapters)
    kinds = {name.split(".")[-1] for name in reached}
    if spec.family == "qwen_vl":
        assert {"q_proj", "k_proj", "v_proj", "o_proj"} <= kinds
        assert any("visual.merger" in name for name in reached)
        assert not any("visual.blocks" in name for name in reached)
    else:
        assert kinds == {"query", "key", "value", "dense"}
        assert len(reached) == 4 * 6


def test_vectors_of_training_are_those_of_encoding(spec):
    encoder = spec.load("cpu")
    vectors = encoder.vectors(encoder.prepare(TEXTS, PHOTOS))
    np.testing.assert_allclose(vectors.detach().numpy(), encoder.encode(TEXTS, PHOTOS).vectors, atol=1e-6)


def test_another_adapter_or_other_statistics_are_another_revision(tmp_path):
    spec = encoder_spec(EncoderConfig())
    revisions = set()
    for number, (weight, rank, statistics) in enumerate([(1, 4, None), (2, 4, None), (1, 8, None), (1, 4, "a")]):
        about = {"lora": {"rank": rank, "alpha": 8.0}, "trained_until": "2024-01-25", "statistics": statistics}
        save_state(tmp_path / str(number), {"w": torch.full((2,), weight)}, about)
        assert load_model(tmp_path / str(number))[1] == about
        revisions.add(TunedSpec.read(spec, tmp_path / str(number)).revision)
    assert len(revisions) == 4


def test_a_model_without_the_family_s_projections_cannot_be_tuned():
    class Other:
        text = nn.Sequential(nn.Linear(2, 2))

    with pytest.raises(ConfigError, match=r"Sequential has no layers named like .* set alignment.method to head"):
        attach(Other(), "minilm_vl", 4, 8.0)
