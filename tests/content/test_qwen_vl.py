"""The Qwen-VL family, on tiny random models of all its architectures."""

from __future__ import annotations

import io
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import AutoModel, AutoTokenizer, Qwen3VLProcessor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from akt_spark.config import EncoderConfig
from akt_spark.content.encoders import encoder_spec
from akt_spark.content.encoders.qwen_prompt import QwenPrompt
from akt_spark.content.encoders.qwen_vl import QwenVL, pool
from akt_spark.errors import ConfigError
from content.pictures import BLUE, RED, picture
from content.tiny_qwen import FAMILIES, WIDTH, edit_json, tiny_qwen

SHORT, LONG = "Title: Red shoe", "Title: A very long story about ships. Category: Books > Sea > Novels"
PIXELS = 64 * 64


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {family: tiny_qwen(root / family, family) for family in FAMILIES}


@pytest.fixture(params=FAMILIES)
def encoder(request, folders) -> QwenVL:
    return load(folders[request.param])


@pytest.fixture
def qwen3(folders, tmp_path) -> Path:
    """A folder to spoil."""
    return Path(shutil.copytree(folders["qwen3_vl"], tmp_path / "qwen3"))


def config(folder: Path | str, **changes: object) -> EncoderConfig:
    return EncoderConfig(**{"family": "qwen_vl", "model": str(folder), "max_pixels": PIXELS} | changes)


def load(folder: Path, **changes: object) -> QwenVL:
    return encoder_spec(config(folder, **changes)).load("cpu")


def revision(folder: Path, **changes: object) -> str:
    return encoder_spec(config(folder, **changes)).revision


def alone(encoder: QwenVL, text: str, image: bytes | None = None) -> np.ndarray:
    return encoder.encode([text], [image]).vectors[0]


def test_image_and_text_both_matter(encoder):
    rows = [(SHORT, RED), (SHORT, BLUE), (SHORT, None), (LONG, RED)]
    vectors = encoder.encode(*zip(*rows, strict=True)).vectors
    assert (vectors @ vectors.T)[np.triu_indices(len(rows), 1)].max() < 0.999


def test_a_strip_that_the_models_cannot_read_is_flagged(folders):
    encoder = load(folders["qwen3_vl"])
    result = encoder.encode([SHORT], [picture(1000, 2)])
    np.testing.assert_array_equal(result.vectors[0], alone(encoder, SHORT))
    assert result.image_corrupt[0]


def library_vectors(folder: Path, texts: list[str], images: list[bytes | None], padding: str) -> np.ndarray:
    """The same by the library's own tokenizer and processor, with either side padded."""

    class WithoutVideo(Qwen3VLProcessor):
        def __init__(self, image_processor, tokenizer):  # the video half needs torchvision
            super().__init__(image_processor, tokenizer, None)

    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side=padding)
    tokenizer.pad_token = "<|endoftext|>"
    processor = WithoutVideo(Qwen2VLImageProcessorPil.from_pretrained(folder), tokenizer)
    before, after = EncoderConfig().prompt.split("{image}{text}")
    prompts = [
        before + ("<|vision_start|><|image_pad|><|vision_end|>" if image else "") + text + after
        for text, image in zip(texts, images, strict=True)
    ]
    seen = [Image.open(io.BytesIO(image)).convert("RGB") for image in images if image]
    size = {"shortest_edge": EncoderConfig().min_pixels, "longest_edge": PIXELS}
    given = processor(text=prompts, images=seen or None, size=size, padding=True, return_tensors="pt")
    model = AutoModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        hidden = model(**given, use_cache=False).last_hidden_state
    last = given["attention_mask"].sum(1) - 1 if padding == "right" else torch.full((len(texts),), hidden.shape[1] - 1)
    return torch.nn.functional.normalize(hidden[torch.arange(len(texts)), last], dim=-1).numpy()


@pytest.mark.parametrize("padding", ["left", "right"])
@pytest.mark.parametrize("images", [[RED, BLUE, None], [None, None, None]], ids=["images", "text"])
def test_vectors_are_those_of_the_librarys_own_processor_whichever_side_it_pads(encoder, images, padding):
    texts = [SHORT, LONG, SHORT]
    expected = library_vectors(Path(encoder.spec.folder), texts, images, padding)
    np.testing.assert_allclose(encoder.encode(texts, images).vectors, expected, atol=1e-5)


def test_padding_is_never_pooled():
    hidden = torch.arange(6.0).reshape(1, 3, 2).repeat(2, 1, 1)  # (2, 3, 2): states (0, 1), (2, 3), (4, 5)
    mask = torch.tensor([[1, 1, 0], [0, 1, 1]])
    assert pool(hidden, mask, "last").tolist() == [[2, 3], [4, 5]]
    assert pool(hidden, mask, "mean").tolist() == [[1, 2], [3, 4]]


def test_mean_pooling_does_not_depend_on_the_batch_either(folders):
    encoder = load(folders["qwen2_vl"], pooling="mean")
    together = encoder.encode([SHORT, LONG], [RED, BLUE]).vectors
    np.testing.assert_allclose(together[0], alone(encoder, SHORT, RED), atol=1e-5)
    assert np.abs(together[0] - alone(load(folders["qwen2_vl"]), SHORT, RED)).max() > 0.01


def test_only_the_text_of_a_long_prompt_is_cut(folders):
    encoder = load(folders["qwen3_vl"], max_tokens=60)
    result = encoder.encode(["x " * 500, SHORT], [RED, RED])
    assert result.truncated.tolist() == [True, False]
    assert result.n_tokens[0] == 60 > result.n_tokens[1]
    cut, whole = encoder.prompt.cut(["x " * 500, SHORT])
    start, pad, end = encoder.prompt.start, encoder.prompt.pad, encoder.prompt.end
    closing = encoder.prompt.tokenizer.token_to_id("<|endoftext|>")
    for ids in (encoder.prompt.tokens(cut, 4), encoder.prompt.tokens(whole, 4)):
        place = ids.index(start)
        assert ids[place : place + 6] == [start, pad, pad, pad, pad, end]
        assert ids[-1] == closing
    assert pad not in encoder.prompt.tokens(whole) and start not in encoder.prompt.tokens(whole)
    assert alone(encoder, "x " * 500) == pytest.approx(alone(encoder, "x " * 600), abs=1e-6)


def test_special_tokens_in_a_title_are_words(folders):
    encoder = load(folders["qwen2_vl"], max_tokens=200)
    texts = [SHORT, "<|image_pad|> Title <|im_end|><|endoftext|> <|vision_start|>"]
    result = encoder.encode(texts, [RED, RED])
    np.testing.assert_allclose(result.vectors[0], alone(encoder, SHORT, RED), atol=1e-5)
    assert encoder.prompt.pad not in encoder.prompt.cut(texts)[1].ids


def test_lengths_count_text_and_image_tokens(encoder):
    lengths = encoder.lengths([SHORT, SHORT, SHORT], [None, BLUE, b"no image"])
    tokens = encoder.encode([SHORT], [None]).n_tokens[0]
    side = encoder.images.side  # 28 or 32: an image of 64 x 64 is 2 x 2 tokens
    assert lengths.tolist() == [tokens, tokens + (64 // side) ** 2, tokens]


def test_without_images_they_are_neither_read_nor_needed(qwen3):
    (qwen3 / "preprocessor_config.json").unlink()
    with pytest.raises(ConfigError, match=r"no preprocessor_config.json.*encoder.use_images to false"):
        load(qwen3)
    encoder = load(qwen3, use_images=False)
    result = encoder.encode([SHORT], [RED])
    np.testing.assert_array_equal(result.vectors, encoder.encode([SHORT], [None]).vectors)
    assert result.image_missing[0]


def test_bfloat16_is_another_revision_and_nearly_the_same_vector(folders):
    exact, rounded = load(folders["qwen2_5_vl"]), load(folders["qwen2_5_vl"], dtype="bfloat16")
    assert exact.revision != rounded.revision
    result = rounded.encode([SHORT], [RED]).vectors
    assert result.dtype == np.float32
    assert 0.95 < result[0] @ alone(exact, SHORT, RED) < 0.999999


def test_the_spec_is_small_and_travels(folders):
    spec = encoder_spec(config(folders["qwen3_vl"]))
    again = pickle.loads(pickle.dumps(spec))
    assert len(pickle.dumps(spec)) < 2000
    assert (again, again.revision, again.dim) == (spec, spec.revision, WIDTH)


def test_the_revision_changes_with_every_key_that_changes_a_vector_and_with_no_other(folders):
    folder = folders["qwen3_vl"]
    changing = [
        {"use_images": False},
        {"min_pixels": 1024},
        {"max_pixels": 2 * PIXELS},
        {"prompt": "{image}{text}"},
        {"pooling": "mean"},
        {"max_tokens": 77},
        {"dtype": "bfloat16"},
        {"revision": "mine"},
    ]
    inert = [
        {"device": "cpu"},
        {"batch_size": 3},
        {"batch_tokens": 3},
        {"rows_per_task": 3},
        {"commit_rows": 3},
        {"stall_seconds": 3.0},
        {"max_error_share": 0.5},
        {"gpus_per_task": 1.0},
        {"trust_remote_code": True},  # the folder brings no code
    ]
    revisions = [revision(folder, **keys) for keys in [{}, *changing]]
    assert len(set(revisions)) == len(revisions)
    assert {revision(folder, **keys) for keys in inert} == {revisions[0]}
    named = {key for keys in changing + inert for key in keys}
    assert named == set(EncoderConfig.model_fields) - {"family", "model", "image_size"}
    text_only = {"use_images": False}
    assert revision(folder, **text_only) == revision(folder, **text_only, max_pixels=2 * PIXELS)


def test_the_revision_changes_with_every_file_that_changes_a_vector_and_with_no_other(folders, qwen3):
    first = revision(folders["qwen3_vl"])
    assert revision(qwen3) == first  # the same files elsewhere
    edit_json(qwen3 / "tokenizer_config.json", padding_side="left", model_max_length=7)
    edit_json(qwen3 / "config.json", transformers_version="4.57.0", architectures=["Other"], _name_or_path="x")
    edit_json(qwen3 / "preprocessor_config.json", max_pixels=99, processor_class="Other")
    (qwen3 / "README.md").write_text("hello")
    assert revision(qwen3) == first
    seen = {first}
    for file, change in (
        ("config.json", {"tie_word_embeddings": True}),
        ("preprocessor_config.json", {"image_mean": [0, 0, 0]}),
        ("tokenizer.json", {"normalizer": None}),
    ):
        edit_json(qwen3 / file, **change)
        seen.add(revision(qwen3))
    weights = load_file(qwen3 / "model.safetensors")
    weights["model.language_model.norm.weight"][3] += 1e-6  # one number
    save_file(weights, qwen3 / "model.safetensors", {"format": "pt"})
    seen.add(revision(qwen3))
    assert len(seen) == 5


def test_sharded_weights_are_read_and_all_hashed(qwen3):
    whole = alone(load(qwen3), SHORT, RED)
    AutoModel.from_pretrained(qwen3).save_pretrained(qwen3, max_shard_size="200KB")
    (qwen3 / "model.safetensors").unlink()
    shards = sorted(qwen3.glob("model-*.safetensors"))
    assert len(shards) > 1
    np.testing.assert_allclose(alone(load(qwen3), SHORT, RED), whole, atol=1e-6)
    before = revision(qwen3)
    weights = load_file(shards[-1])
    next(iter(weights.values())).add_(1)
    save_file(weights, shards[-1], {"format": "pt"})
    assert revision(qwen3) != before
    shards[0].unlink()
    with pytest.raises(ConfigError, match=f"lacks {shards[0].name}"):
        load(qwen3)


def test_code_of_a_model_runs_only_if_the_configuration_says_so(tmp_path):
    folder = tiny_qwen(tmp_path / "gme", "gme")
    vector = alone(load(folder), SHORT, RED)
    assert not (folder / "code_ran").exists()
    state = load(folder).model.state_dict()
    save_file(state, folder / "model.safetensors", {"format": "pt"})  # code of one's own reads its names as they are
    trusted = load(folder, trust_remote_code=True)
    assert (folder / "code_ran").exists()
    np.testing.assert_array_equal(alone(trusted, SHORT, RED), vector)
    assert trusted.revision != revision(folder)  # its code is part of it


def test_pickled_weights_are_refused(qwen3):
    (qwen3 / "model.safetensors").rename(qwen3 / "pytorch_model.bin")
    with pytest.raises(ConfigError, match=r"lacks model.safetensors; pytorch_model.bin would have to be unpickled"):
        load(qwen3)


def test_a_model_that_is_nowhere_is_named_with_the_remedy(tmp_path):
    for name in ("Qwen/Qwen3-VL-that-nobody-has", str(tmp_path / "nowhere")):
        with pytest.raises(ConfigError, match=r"encoder.model .* neither a folder nor .* hf download") as error:
            load(name)
        assert name in str(error.value)


def test_an_id_in_the_local_cache_is_the_same_as_its_folder(folders, tmp_path, monkeypatch):
    snapshots = tmp_path / "models--Some--Model" / "snapshots"
    shutil.copytree(folders["qwen2_vl"], snapshots / "abc")
    (tmp_path / "models--Some--Model" / "refs").mkdir()
    (tmp_path / "models--Some--Model" / "refs" / "main").write_text("abc")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub._snapshot_download.constants.HF_HUB_CACHE", str(tmp_path))
    assert revision("Some/Model") == revision(folders["qwen2_vl"])


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("config.json", {"model_type": "bert"}, r"is of type bert; family qwen_vl reads qwen2_vl"),
        ("config.json", {"image_token_id": 1}, r"they belong to two models"),
        ("tokenizer.json", None, r"has no tokenizer.json"),
        ("config.json", None, r"has no config.json"),
    ],
)
def test_a_folder_that_is_no_such_model_says_why(qwen3, file, change, message):
    if change is None:
        (qwen3 / file).unlink()
    else:
        edit_json(qwen3 / file, **change)
    with pytest.raises(ConfigError, match=message):
        encoder_spec(config(qwen3))


def test_weights_that_are_missing_are_not_drawn_at_random(qwen3):
    weights = load_file(qwen3 / "model.safetensors")
    del weights["model.language_model.norm.weight"]
    save_file(weights, qwen3 / "model.safetensors", {"format": "pt"})
    with pytest.raises(ConfigError, match=r"lacks 1 weights of a Qwen3VLModel, such as .*norm.weight"):
        load(qwen3)


def test_a_prompt_without_room_for_a_text_is_refused(folders):
    with pytest.raises(ConfigError, match=r"encoder.max_tokens is 20, but encoder.prompt alone has \d+ tokens"):
        encoder_spec(config(folders["qwen3_vl"], max_tokens=20))


def test_a_prompt_may_put_the_text_first_and_hold_braces(folders):
    tokenizer = Tokenizer.from_file(str(folders["qwen3_vl"] / "tokenizer.json"))
    prompt = QwenPrompt(tokenizer, "{text} {} {image}", 50)
    ids = prompt.tokens(prompt.cut(["{image}"])[0], image_tokens=2)
    assert ids[-4:] == [prompt.start, prompt.pad, prompt.pad, prompt.end]
    assert tokenizer.decode(ids[:-4], skip_special_tokens=False) == "{image} {} "


def test_the_published_layout_of_qwen2_vl_is_read(folders, tmp_path):
    """Its config.json is flat, and older than text_config."""
    folder = Path(shutil.copytree(folders["qwen2_vl"], tmp_path / "flat"))
    description = json.loads((folder / "config.json").read_text())
    text = description.pop("text_config")
    rope = text.pop("rope_parameters")
    text |= {
        "rope_theta": rope["rope_theta"],
        "rope_scaling": {"type": "mrope", "mrope_section": rope["mrope_section"]},
    }
    (folder / "config.json").write_text(json.dumps(text | description))
    expected = alone(load(folders["qwen2_vl"]), SHORT, RED)
    np.testing.assert_allclose(alone(load(folder), SHORT, RED), expected, atol=1e-6)
