"""Qwen-VL: a vision-language model that reads an item's photo and text; one state of its last layer is the item.

For Qwen2-VL, Qwen2.5-VL and Qwen3-VL, and for embedding models built on them, such as GME and Qwen3-VL-Embedding.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

# Weights come from a folder. Nothing may be fetched, whatever the environment says.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional as F

from akt_spark.config import EncoderConfig, fingerprint
from akt_spark.content.encoders.image_text import ImageTextEncoder, TextTokens
from akt_spark.content.encoders.qwen_images import QwenImages
from akt_spark.content.encoders.qwen_prompt import IMAGE, QwenPrompt
from akt_spark.content.encoders.weights import file_hash, model_folder, weight_files
from akt_spark.content.prompts import prompt_fingerprint
from akt_spark.errors import ConfigError

ALGORITHM = 1  # raise it when a change of these files changes vectors
MODEL_TYPES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
# keys of config.json that no vector depends on
INERT = {"_name_or_path", "architectures", "auto_map", "dtype", "torch_dtype", "transformers_version", "use_cache"}


@dataclass(frozen=True)
class QwenVLSpec:
    """Everything that a vector of this family depends on.

    Attributes:
        folder: where the model lies, under the same path on every worker.
        content: hash of what in the folder decides vectors; the folder may move.
        dim: width of the model's last layer.
    """

    folder: str
    content: str
    dim: int
    use_images: bool
    min_pixels: int
    max_pixels: int
    prompt: str
    pooling: str
    max_tokens: int
    dtype: str
    trust_remote_code: bool
    family: ClassVar[str] = "qwen_vl"

    @classmethod
    def of(cls, config: EncoderConfig) -> QwenVLSpec:
        """Looks at the model's folder, and hashes it (about a second a GB), but loads no weights.

        Raises:
            ConfigError: when there is no such model, it is of another kind, or the prompt leaves no room for a text.
        """
        folder = model_folder(config.model)
        description = _description(folder, config.trust_remote_code)
        tokenizer = _tokenizer(folder, description)
        QwenPrompt(tokenizer, config.prompt, config.max_tokens)
        return cls(
            folder=str(folder),
            content=_content_hash(folder, description, config),
            dim=description.get("text_config", description)["hidden_size"],
            use_images=config.use_images,
            min_pixels=config.min_pixels,
            max_pixels=config.max_pixels,
            prompt=config.prompt,
            pooling=config.pooling,
            max_tokens=config.max_tokens,
            dtype=config.dtype,
            trust_remote_code=config.trust_remote_code,
        )

    @property
    def revision(self) -> str:
        """Family and a short hash of folder, transformers' version, prompt, tokens, pixels, pooling and dtype."""
        prompt = self.prompt if self.use_images else self.prompt.replace("{image}", "")
        reads = (prompt, prompt_fingerprint(), self.max_tokens, self.pooling, self.dtype)
        return f"{self.family}-{fingerprint(ALGORITHM, version('transformers'), self.content, *reads)[:12]}"

    @property
    def made_of(self) -> dict[str, Any]:
        """All that a vector depends on."""
        pixels = {"min_pixels": self.min_pixels, "max_pixels": self.max_pixels} if self.use_images else {}
        return {
            "family": self.family,
            "algorithm": ALGORITHM,
            "packages": {"transformers": version("transformers")},
            "content of model": self.content,
            "prompt": self.prompt,
            "prompt template": prompt_fingerprint(),
            "pooling": self.pooling,
            "max_tokens": self.max_tokens,
            "dtype": self.dtype,
            "use_images": self.use_images,
            **pixels,
        }

    def load(self, device: str = "cpu") -> QwenVL:
        """Loads tokenizer and weights."""
        return QwenVL(self, torch.device(device))


class QwenVL(ImageTextEncoder):
    """The loaded encoder. See the module's docstring."""

    def __init__(self, spec: QwenVLSpec, device: torch.device) -> None:
        folder = Path(spec.folder)
        tokenizer = _tokenizer(folder, _description(folder, spec.trust_remote_code))
        self.spec, self.revision, self.dim, self.device = spec, spec.revision, spec.dim, device
        self.prompt = QwenPrompt(tokenizer, spec.prompt, spec.max_tokens)
        self.sees_images = spec.use_images
        self.images = QwenImages(folder, spec.min_pixels, spec.max_pixels) if spec.use_images else None
        self.model = _load_model(spec).eval().to(device)

    def lengths(self, texts: Sequence[str], images: Sequence[bytes | None]) -> np.ndarray:
        """(B,) tokens of each row's prompt, its image's included."""
        text = [self.prompt.fixed + len(cut.ids) for cut in self.prompt.cut(texts)]
        seen = [self.images.expected_tokens(image) if self.images and image is not None else 0 for image in images]
        return np.array(text) + np.array(seen)

    def _read_texts(self, texts: Sequence[str]) -> list[TextTokens]:
        return self.prompt.cut(texts)

    def _read_image(self, data: bytes) -> Image.Image | None:
        return self.images.read(data)

    def _token_ids(self, text: TextTokens, picture: Image.Image | None) -> list[int]:
        return self.prompt.tokens(text, 0 if picture is None else self.images.tokens(picture))

    def _stack(self, pictures: list[Image.Image]) -> tuple[Tensor, Tensor]:
        return self.images.patches(pictures)

    def _forward(self, ids: list[list[int]], images: tuple[Tensor, Tensor] | None) -> Tensor:
        """Token lists, and the patches and sizes of an image a row or None, to (B, dim) float32."""
        longest = max(map(len, ids))
        padded = torch.tensor([row + [0] * (longest - len(row)) for row in ids], device=self.device)  # (B, T)
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in ids], device=self.device)
        seen = {}
        if images is not None:
            patches, grid = images
            seen["pixel_values"], seen["image_grid_thw"] = patches.to(self.device), grid.to(self.device)
            seen["mm_token_type_ids"] = (padded == self.prompt.pad).int()
        hidden = self.model(input_ids=padded, attention_mask=mask, use_cache=False, **seen).last_hidden_state
        return F.normalize(pool(hidden.float(), mask, self.spec.pooling), dim=-1)


def pool(hidden: Tensor, mask: Tensor, pooling: str) -> Tensor:
    """One state a row, whichever side is padded: (B, T, d) and (B, T) of 1 for tokens, 0 for padding, to (B, d)."""
    if pooling == "mean":
        return (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    last = (mask * torch.arange(mask.shape[1], device=mask.device)).argmax(1)
    return hidden[torch.arange(len(hidden), device=mask.device), last]


def _description(folder: Path, trust_remote_code: bool) -> dict[str, Any]:
    """config.json of a model of these families, or of any other that its own code may read."""
    file = folder / "config.json"
    if not file.is_file():
        raise ConfigError(f"encoder.model {folder} has no config.json: give the folder of a model")
    description = json.loads(file.read_text())
    kind = description.get("model_type")
    if kind not in MODEL_TYPES and not trust_remote_code:
        raise ConfigError(
            f"encoder.model {folder} is of type {kind}; family qwen_vl reads {', '.join(MODEL_TYPES)}. A model of "
            "another type that brings its own code needs encoder.trust_remote_code"
        )
    return description


def _tokenizer(folder: Path, description: dict[str, Any]) -> Tokenizer:
    file = folder / "tokenizer.json"
    if not file.is_file():
        raise ConfigError(f"encoder.model {folder} has no tokenizer.json: save its tokenizer there with transformers")
    tokenizer = Tokenizer.from_file(str(file))
    ids = [tokenizer.token_to_id(token) for token in IMAGE]
    expected = [description.get(key) for key in ("vision_start_token_id", "image_token_id", "vision_end_token_id")]
    if None in ids or ids != expected:
        raise ConfigError(
            f"encoder.model {folder}: {', '.join(IMAGE)} are {ids} in tokenizer.json, but {expected} in config.json; "
            "they belong to two models"
        )
    return tokenizer


def _content_hash(folder: Path, description: dict[str, Any], config: EncoderConfig) -> str:
    """Hash of what decides a vector: weights, architecture, tokenizer, pixels, and code where it is run."""
    weights = [file_hash(file) for file in weight_files(folder)]
    images = QwenImages(folder, config.min_pixels, config.max_pixels).settings if config.use_images else None
    code = None
    if config.trust_remote_code and "auto_map" in description:
        code = description["auto_map"], [file_hash(file) for file in sorted(folder.rglob("*.py"))]
    tokenizer = file_hash(folder / "tokenizer.json")
    return fingerprint(weights, _without_inert(description), tokenizer, images, code)


def _without_inert(description: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in description.items() if key not in INERT}
    return {key: _without_inert(value) if isinstance(value, dict) else value for key, value in kept.items()}


def _load_model(spec: QwenVLSpec) -> torch.nn.Module:
    """The model without its language head.

    Raises:
        ConfigError: when the files do not hold all of its weights; transformers would draw the others at random.
    """
    from transformers import AutoModel
    from transformers.utils import logging

    logging.set_verbosity_error()  # it would report the unused head, and draw bars in executors' logs
    logging.disable_progress_bar()
    model, found = AutoModel.from_pretrained(
        spec.folder,
        dtype=getattr(torch, spec.dtype),
        use_safetensors=True,
        local_files_only=True,
        trust_remote_code=spec.trust_remote_code,
        output_loading_info=True,
    )
    missing = sorted(found["missing_keys"])
    if missing:
        raise ConfigError(
            f"encoder.model {spec.folder} lacks {len(missing)} weights of a {type(model).__name__}, such as "
            f"{missing[0]}: it is incomplete, or its config.json belongs to another model"
        )
    return model
