"""MAKE's branch: a click model of content alone, which can be trained longer than a model of ids (arXiv 2407.19467)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from akt_spark.config import ModelConfig
from akt_spark.ranker.attention import TargetAttention
from akt_spark.ranker.content import Vectors
from akt_spark.ranker.lookup import EntityLookup, distinct

Distinct = Callable[..., tuple[Tensor, list[Tensor]]]


class ContentBranch(nn.Module):
    """Target attention over the content of the recent history, and an MLP with a logit of its own.

    Rows of ids overfit from the second epoch on, what reads content does not. So for ``pretrain_epochs`` passes the
    training loop minimises the log loss of this logit alone; then what the branch has found enters the tower beside
    the rest: attended history, hidden layer and logit. It learns on with the rest, or stays as it is (``frozen``).
    Widths, activations and that frozen form are ours.

    Attributes:
        width: of what enters the tower.
    """

    def __init__(self, config: ModelConfig, items: EntityLookup) -> None:
        super().__init__()
        self.frozen, self.recent = config.content_branch == "frozen", config.recent
        self.vectors = Vectors(items.vector)
        content, dim = items.vector.shape[1], config.dim
        wide, hidden = config.hidden[0], config.hidden[-1]
        self.target = nn.Linear(content, dim)
        self.attention = TargetAttention(content, content, dim, config.attention_hidden)
        self.hidden = nn.Sequential(nn.Linear(3 * dim, wide), nn.ReLU(), nn.Linear(wide, hidden))
        self.out = nn.Linear(hidden, 1)
        self.width = dim + hidden + 1

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """Logits (B,) of samples, in the form that `Ranker` takes them."""
        return self._read(batch, distinct)[2][:, 0]

    def features(self, batch: dict[str, Tensor], distinct: Distinct = distinct) -> Tensor:
        """What the tower reads, (B, width), of ids made distinct in a way like `lookup.distinct`."""
        found = torch.cat(self._read(batch, distinct), 1)
        return found.detach() if self.frozen else found

    def _read(self, batch: dict[str, Tensor], distinct: Distinct) -> tuple[Tensor, Tensor, Tensor]:
        """Attended history (B, d), hidden layer (B, h) and logit (B, 1)."""
        items, recent = batch["item_idx"], batch["history"][:, : self.recent]  # (B,), (B, T)
        ids, (target, position) = distinct(items, recent)
        vectors = self.vectors(ids)  # (U, D)
        shown = (recent > 0) & self.vectors.known[recent]
        attended = self.attention(vectors[target], vectors, position, shown)  # (B, d)
        projected = self.target(vectors[target])
        hidden = torch.relu(self.hidden(torch.cat([projected, attended, projected * attended], 1)))
        return attended, hidden, self.out(hidden)
