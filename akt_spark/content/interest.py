"""The interest model: a small causal transformer over frozen aligned item vectors (method.md 3, after LEARN)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from akt_spark.config import InterestConfig
from akt_spark.content.arrow import vectors_from_arrow, vectors_to_arrow
from akt_spark.content.artifacts import load_model, save_model
from akt_spark.content.workers import loaded_once

DROPOUT = 0.1


class Block(nn.Module):
    """A pre-norm transformer layer that sees only the past."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention, self.norm_feed = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.merge = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.feed = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, d) to (B, T, d)."""
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, heads, T, d / heads)
            for part in self.qkv(self.norm_attention(x)).chunk(3, dim=-1)
        )
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.dropout(self.merge(seen.transpose(1, 2).flatten(2)))
        return x + self.dropout(self.feed(self.norm_feed(x)))


class InterestModel(nn.Module):
    """Predicts, after every click, the aligned vector of the next one.

    The first token is the profile (the mean of its attributes' embeddings, or a token of its own where there is
    none), so a user without clicks has a vector too. The prediction adds to the mean of the clicks so far. To start at
    that mean (zeros for what is added) was tried and found fewer clicks on MovieLens 1M and H&M. Histories are padded
    at their end, where the past cannot see it.
    """

    def __init__(self, dim: int, history: int, layers: int, heads: int, profile_buckets: int, categories: int) -> None:
        super().__init__()
        self.sizes = {
            "dim": dim,
            "history": history,
            "layers": layers,
            "heads": heads,
            "profile_buckets": profile_buckets,
            "categories": categories,
        }
        self.profile = nn.EmbeddingBag(1 + profile_buckets, dim, mode="mean")  # bucket 0: no profile
        self.item = nn.Linear(dim, dim)
        self.position = nn.Parameter(torch.randn(1 + history, dim) * 0.02)
        self.blocks = nn.Sequential(*(Block(dim, heads) for _ in range(layers)))
        self.norm = nn.LayerNorm(dim)
        self.next_vector = nn.Linear(dim, dim)
        self.next_category = nn.Linear(dim, categories)

    @classmethod
    def create(cls, dim: int, categories: int, config: InterestConfig) -> InterestModel:
        """An untrained model of the configured size."""
        return cls(dim, config.history, config.layers, config.heads, config.profile_buckets, categories)

    def forward(self, history: Tensor, profiles: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Encodes B users.

        Args:
            history: (B, H, dim) vectors of clicked items, oldest first, zeros behind the end.
            profiles: B lists of attribute buckets from 1, possibly empty.

        Returns:
            (B, H + 1, dim) L2-normalised interests before any click, after the first, ...; and (B, H + 1, dim) hidden
            states for `next_category`.
        """
        token = self._profile_token(profiles).to(history.dtype)[:, None]
        x = torch.cat([token, self.item(history)], dim=1) + self.position[: history.shape[1] + 1]
        hidden = self.norm(self.blocks(x))
        clicks = torch.arange(1, history.shape[1] + 1)[:, None]
        mean = F.pad(history.cumsum(1) / clicks, (0, 0, 1, 0))  # (B, H + 1, dim), zero before any click
        return F.normalize(mean + self.next_vector(hidden), dim=-1), hidden

    @torch.inference_mode()
    def encode(self, histories: Sequence[np.ndarray], profiles: Sequence[Sequence[int]]) -> np.ndarray:
        """Interests after all clicks: B histories of (clicks, dim), oldest first, to (B, dim) float32."""
        lengths = torch.tensor([len(history) for history in histories])
        padded = torch.zeros(len(histories), int(lengths.max()), self.sizes["dim"])
        for row, history in zip(padded, histories, strict=True):
            row[: len(history)] = torch.from_numpy(history)
        interests, _ = self.eval()(padded, profiles)
        return interests[torch.arange(len(lengths)), lengths].numpy()

    def _profile_token(self, profiles: Sequence[Sequence[int]]) -> Tensor:
        """(B, dim)"""
        bags = [list(profile) or [0] for profile in profiles]
        starts = np.cumsum([0] + [len(bag) for bag in bags[:-1]])
        return self.profile(torch.tensor([bucket for bag in bags for bucket in bag]), torch.from_numpy(starts))

    def save(self, folder: Path) -> None:
        """Writes the model folder."""
        save_model(folder, self, {"kind": "interest_model", **self.sizes})

    @classmethod
    def load(cls, folder: str | Path) -> InterestModel:
        """Reads a model folder, ready to encode."""
        state, description = load_model(folder)
        description.pop("kind")
        model = cls(**description)
        model.load_state_dict(state)
        return model.eval()


def embed_batches(
    batches: Iterator[pa.RecordBatch], folder: str, revision: str, batch_size: int
) -> Iterator[pa.RecordBatch]:
    """For ``mapInArrow``: user_id, content_hash, profile, vectors to user_id, content_hash, clicks, vector."""
    model = loaded_once(revision, "cpu", lambda: InterestModel.load(folder))
    dim = model.sizes["dim"]
    for batch in batches:
        lists, profiles = batch.column("vectors"), batch.column("profile").to_pylist()
        clicks = np.array(lists.value_lengths())
        flat = vectors_from_arrow(lists.flatten(), dim)
        histories = np.split(flat, np.cumsum(clicks)[:-1])
        parts = [
            model.encode(histories[start : start + batch_size], profiles[start : start + batch_size])
            for start in range(0, len(clicks), batch_size)
        ]
        vectors = np.concatenate(parts) if parts else np.empty((0, dim), dtype=np.float32)
        columns = {
            "user_id": batch.column("user_id"),
            "content_hash": batch.column("content_hash"),
            "clicks": pa.array(clicks, type=pa.int32()),
            "vector": vectors_to_arrow(vectors),
        }
        yield pa.RecordBatch.from_pydict(columns)
