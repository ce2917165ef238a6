"""What tells two encoders apart, and revisions that were set by hand."""

from __future__ import annotations

import pickle

import pytest
from pydantic import ValidationError

from akt_spark.config import EncoderConfig
from akt_spark.content.encoders import encoder_spec, minilm_vl
from akt_spark.content.raw_encoders import differences


def made_of(**config: object) -> dict[str, object]:
    return encoder_spec(EncoderConfig(revision="mine", **config)).made_of


def test_differences_name_keys_with_their_values():
    before = {"prompt": "a", "packages": {"one": "1", "two": "2"}, "same": 3, "gone": None}
    after = {"prompt": "b", "packages": {"one": "1", "two": "3"}, "same": 3, "new": [1]}
    assert differences(before, after) == ["new: nothing -> [1]", "packages.two: 2 -> 3", "prompt: a -> b"]
    assert differences(before, before) == []


def test_a_revision_set_by_hand_names_the_configured_encoder():
    named, spec = encoder_spec(EncoderConfig(revision="mine")), encoder_spec(EncoderConfig())
    assert named.revision == "mine" != spec.revision
    assert (named.family, named.dim, named.use_images) == (spec.family, spec.dim, spec.use_images)
    assert named.made_of == spec.made_of
    assert pickle.loads(pickle.dumps(named)) == named
    with pytest.raises(ValidationError, match="revision"):
        EncoderConfig(revision="two words")


def test_what_changes_a_vector_is_a_difference_and_nothing_else_is():
    assert differences(made_of(), made_of(batch_size=3, commit_rows=3, device="cpu")) == []
    assert differences(made_of(), made_of(image_size=64)) == ["image_size: 128 -> 64"]
    assert differences(made_of(), made_of(max_tokens=8, dtype="bfloat16")) == [
        "dtype: float32 -> bfloat16",
        "max_tokens: 96 -> 8",
    ]
    assert made_of(use_images=False) == made_of(use_images=False, image_size=64)


def test_weights_exchanged_inside_a_package_are_a_difference(monkeypatch, tmp_path):
    before = made_of(use_images=False)
    (tmp_path / "model.safetensors").write_bytes(b"other")
    monkeypatch.setattr(minilm_vl, "_text_model", lambda: tmp_path)
    changed = differences(before, made_of(use_images=False))
    assert [line.split(":")[0] for line in changed] == ["weights of MiniLM"]
    assert encoder_spec(EncoderConfig(use_images=False)).revision  # knows the package only by its version


def test_a_changed_algorithm_is_a_difference(monkeypatch):
    before = made_of()
    monkeypatch.setattr(minilm_vl, "ALGORITHM", minilm_vl.ALGORITHM + 1)
    assert differences(before, made_of()) == [f"algorithm: {minilm_vl.ALGORITHM - 1} -> {minilm_vl.ALGORITHM}"]
