"""What alignment trains: items to aligned vectors, by a head on frozen vectors or together with the encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from akt_spark.config import LoraConfig
from akt_spark.content.encoders.image_text import ImageTextEncoder
from akt_spark.content.encoders.lora import adapter_state, attach, halves
from akt_spark.content.head import ProjectionHead


class Texts(Protocol):
    """Texts and images of N items, by position."""

    texts: Sequence[str]

    def images(self, rows: np.ndarray) -> list[bytes | None]:
        """Encoded images of some items."""
        ...


class HeadAligner(nn.Module):
    """A head on frozen raw vectors (N, raw_dim)."""

    def __init__(self, head: ProjectionHead, raw: Tensor) -> None:
        super().__init__()
        self.head, self.raw = head, raw

    def forward(self, items: np.ndarray) -> Tensor:
        """Positions (B,) to aligned vectors (B, dim)."""
        return self.head(self.raw[items])

    def parts(self, items: np.ndarray) -> list[np.ndarray]:
        """Places in a batch that are embedded at once: all."""
        return [np.arange(len(items))]

    @torch.inference_mode()
    def all_vectors(self) -> Tensor:
        """(N, dim), as they are now."""
        return self.eval().head(self.raw)

    def parameter_groups(self, learning_rate: float) -> list[dict]:
        """For the optimiser."""
        return [{"params": list(self.head.parameters()), "lr": learning_rate}]


class TunedAligner(nn.Module):
    """A head on an encoder with adapters. The encoder stays in evaluation mode but for the adapters' dropout."""

    def __init__(
        self,
        encoder: ImageTextEncoder,
        family: str,
        head: ProjectionHead,
        items: Texts,
        config: LoraConfig,
        batch_size: int,
    ) -> None:
        super().__init__()
        self.encoder, self.items, self.config, self.batch_size = encoder, items, config, batch_size
        self.adapters = attach(encoder, family, config.rank, config.alpha, config.dropout)
        self.lora = nn.ModuleList(self.adapters.values())
        self.head = head.to(halves(next(iter(self.adapters.values())))["down"].weight.device)
        self.lengths, self.images = self._read()

    def forward(self, items: np.ndarray) -> Tensor:
        """Positions (B,) to aligned vectors (B, dim)."""
        return self.head(self.encode(items))

    def encode(self, items: np.ndarray) -> Tensor:
        """Positions (B,) to the encoder's vectors (B, raw_dim), with a graph where one is recorded."""
        images = [self.images[i] for i in items] if self.images else self.items.images(items)
        return self.encoder.vectors(self.encoder.prepare([self.items.texts[i] for i in items], images))

    def parts(self, items: np.ndarray) -> list[np.ndarray]:
        """Places in a batch that are embedded at once: ``micro_batch`` of similar length."""
        by_length = np.argsort(self.lengths[items], kind="stable")
        return np.split(by_length, range(self.config.micro_batch, len(items), self.config.micro_batch))

    @torch.inference_mode()
    def all_vectors(self) -> Tensor:
        """(N, dim), as they are now."""
        self.eval()
        by_length = np.argsort(self.lengths, kind="stable")
        parts = [self(part) for part in np.split(by_length, range(self.batch_size, len(by_length), self.batch_size))]
        vectors = torch.cat(parts)
        return vectors[torch.from_numpy(np.argsort(by_length)).to(vectors.device)]

    def _read(self) -> tuple[np.ndarray, list[Any]]:
        """(N,) tokens of every item; what training leaves as it is of every image, where the encoder can tell."""
        everything, lengths, seen = np.arange(len(self.items.texts)), [], []
        for block in np.array_split(everything, max(1, len(everything) // 1024)):
            images = self.items.images(block)
            lengths.append(self.encoder.lengths([self.items.texts[i] for i in block], images))
            seen += self.encoder.seen_once(images) or []
        return np.concatenate(lengths), seen

    def parameter_groups(self, learning_rate: float) -> list[dict]:
        """For the optimiser."""
        lora = [p for p in self.lora.parameters() if p.requires_grad]
        return [
            {"params": list(self.head.parameters()), "lr": learning_rate},
            {"params": lora, "lr": self.config.learning_rate},
        ]

    def adapter_state(self) -> dict[str, Tensor]:
        """The adapters' weights."""
        return adapter_state(self.adapters)


Aligner = HeadAligner | TunedAligner
