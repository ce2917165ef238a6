"""The projection head: raw item vectors to aligned ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from akt_spark.content.arrow import vectors_from_arrow, vectors_to_arrow
from akt_spark.content.artifacts import load_model, save_model
from akt_spark.content.workers import loaded_once


class ProjectionHead(nn.Module):
    """z = normalise(P x + W2 gelu(W1 x sqrt(raw_dim))).

    P starts as the principal axes of the raw vectors and W2 as zero, so the untrained head is the raw geometry,
    compressed, and training moves away from it only as far as the pairs ask.
    """

    def __init__(self, raw_dim: int, hidden: int, dim: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.sizes = {"raw_dim": raw_dim, "hidden": hidden, "dim": dim}
        self.linear = nn.Linear(raw_dim, dim, bias=False)
        self.inner = nn.Linear(raw_dim, hidden)
        self.outer = nn.Linear(hidden, dim)
        self.dropout = nn.Dropout(dropout)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    @torch.no_grad()
    def start_from(self, raw: Tensor) -> None:
        """Sets P to the main principal axes of ``raw`` (N, raw_dim); axes beyond raw_dim stay zero."""
        _, axes = torch.linalg.eigh(raw.T @ raw)  # ascending
        main = axes.flip(1)[:, : self.linear.out_features].T
        self.linear.weight.zero_()
        self.linear.weight[: len(main)] = main

    def forward(self, x: Tensor) -> Tensor:
        """(B, raw_dim) to (B, dim), L2-normalised."""
        scaled = x * self.sizes["raw_dim"] ** 0.5  # unit variance: on unit vectors the gelu would be all but linear
        return F.normalize(self.linear(x) + self.outer(self.dropout(F.gelu(self.inner(scaled)))), dim=-1)

    @torch.inference_mode()
    def project(self, raw: np.ndarray) -> np.ndarray:
        """(N, raw_dim) to (N, dim) float32."""
        return self.eval()(torch.from_numpy(raw)).numpy()

    def save(self, folder: Path) -> None:
        """Writes the model folder."""
        save_model(folder, self, {"kind": "projection_head", **self.sizes})

    @classmethod
    def load(cls, folder: str | Path) -> ProjectionHead:
        """Reads a model folder, ready to project."""
        state, description = load_model(folder)
        head = cls(description["raw_dim"], description["hidden"], description["dim"])
        head.load_state_dict(state)
        return head.eval()


def project_batches(batches: Iterator[pa.RecordBatch], folder: str, revision: str) -> Iterator[pa.RecordBatch]:
    """For ``mapInArrow``: replaces the column ``vector`` (no nulls) by its projection."""
    head = loaded_once(revision, "cpu", lambda: ProjectionHead.load(folder))
    for batch in batches:
        place = batch.schema.get_field_index("vector")
        columns = list(batch.columns)
        columns[place] = vectors_to_arrow(head.project(vectors_from_arrow(batch.column(place), head.sizes["raw_dim"])))
        yield pa.RecordBatch.from_arrays(columns, names=batch.schema.names)
