"""Tiny Qwen-VL folders with random weights, laid out as the published ones are."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import torch
from tokenizers import Tokenizer, pre_tokenizers, trainers
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

FAMILIES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "gme")
WIDTH = 32
SPECIALS = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
]
WORDS = ["Title: Red shoe. Category: Shoes > Running", "You are a helpful assistant. system user a very long story"]
MODELS = {
    "qwen2_vl": (Qwen2VLConfig, Qwen2VLForConditionalGeneration),
    "qwen2_5_vl": (Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration),
    "qwen3_vl": (Qwen3VLConfig, Qwen3VLForConditionalGeneration),
}
VISION = {
    "qwen2_vl": {"depth": 2, "embed_dim": 32, "hidden_size": WIDTH, "mlp_ratio": 2, "num_heads": 2, "patch_size": 14},
    "qwen2_5_vl": {
        "depth": 2,
        "hidden_size": 32,
        "out_hidden_size": WIDTH,
        "intermediate_size": 64,
        "num_heads": 2,
        "patch_size": 14,
        "window_size": 56,
        "fullatt_block_indexes": [1],
    },
    "qwen3_vl": {
        "depth": 2,
        "hidden_size": 32,
        "out_hidden_size": WIDTH,
        "intermediate_size": 64,
        "num_heads": 2,
        "patch_size": 16,
        "num_position_embeddings": 64,
        "deepstack_visual_indexes": [0],
    },
}


def tiny_qwen(folder: Path, family: str, seed: int = 0) -> Path:
    """Writes a folder of the family; `gme` is a qwen2_vl folder that names code of its own, as GME's does."""
    architecture = "qwen2_vl" if family == "gme" else family
    tokenizer = _tokenizer()
    number = tokenizer.convert_tokens_to_ids
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": WIDTH,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 4096,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [4, 2, 2]},
    }
    config_class, model_class = MODELS[architecture]
    config = config_class(
        text_config=text | ({"head_dim": 16} if architecture == "qwen3_vl" else {}),
        vision_config=VISION[architecture],
        image_token_id=number("<|image_pad|>"),
        video_token_id=number("<|video_pad|>"),
        vision_start_token_id=number("<|vision_start|>"),
        vision_end_token_id=number("<|vision_end|>"),
        tie_word_embeddings=False,
    )
    torch.manual_seed(seed)
    model = model_class(config)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn_like(weight) * 0.2)  # the usual 0.02 leaves nothing to be told apart
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    half = [0.5, 0.5, 0.5]
    pixels = {
        "min_pixels": 3136,
        "max_pixels": 12845056,
        "patch_size": VISION[architecture]["patch_size"],
        "temporal_patch_size": 2,
        "merge_size": 2,
        "image_mean": half if architecture == "qwen3_vl" else [0.48145466, 0.4578275, 0.40821073],
        "image_std": half if architecture == "qwen3_vl" else [0.26862954, 0.26130258, 0.27577711],
        "image_processor_type": "Qwen2VLImageProcessor",
        "processor_class": "Qwen2VLProcessor",
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(pixels))
    if family == "gme":
        _name_code(folder)
    return folder


def edit_json(file: Path, **changes: object) -> None:
    """Sets keys of a JSON file."""
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def _name_code(folder: Path) -> None:
    """Code of its own that leaves a trace beside itself when it runs."""
    (folder / "modeling_own.py").write_text(
        "from pathlib import Path\n"
        "from transformers import Qwen2VLModel as Stock\n"
        f"Path({str(folder / 'code_ran')!r}).touch()\n"
        "class Qwen2VLModel(Stock):\n"
        "    pass\n"
    )
    edit_json(folder / "config.json", auto_map={"AutoModel": "modeling_own.Qwen2VLModel"})


@cache
def _tokenizer() -> Qwen2Tokenizer:
    """Byte-level BPE with Qwen's pre-tokenizer, of a handful of merges."""
    base = Qwen2Tokenizer(vocab={token: i for i, token in enumerate(SPECIALS)}, merges=[])
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=SPECIALS, initial_alphabet=alphabet, show_progress=False
    )
    trained: Tokenizer = base.backend_tokenizer
    trained.train_from_iterator(WORDS, trainer)
    model = json.loads(trained.to_str())["model"]
    merges = [tuple(merge) for merge in model["merges"]]
    return Qwen2Tokenizer(vocab=model["vocab"], merges=merges, extra_special_tokens=SPECIALS[1:])
