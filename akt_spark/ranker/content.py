"""What the ranker makes of frozen content vectors: the content view of AKT-Rec, and the rivals' uses of them.

Shapes: B samples, T newest history entries, U distinct items of a batch, D the length of a vector, d a width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from akt_spark.config import ModelConfig
from akt_spark.ranker.attention import TargetAttention
from akt_spark.ranker.lookup import EntityLookup

SIMILARITY_BINS = 22  # ceil(10 cos) + 10 is 0 .. 20; the last bin counts entries without a vector


class ContentView(nn.Module):
    """Blocks of width d that read content vectors, those that `ModelConfig.content` names.

    - ``item``: the target's vector, projected;
    - ``history``: the mean of the recent history's, projected;
    - ``similarity``: SimTier's histogram of the cosines between target and recent history: log(1 + count) of bins of
      .1, each bin with an embedding (here they are summed: a linear map of the log counts);
    - ``interest``: the product of the target's and the mean of the recent history's, projected.

    The vector of a user is not among them: it is of the end of the training period, so that a training sample would
    find its own click in it. The history is that of the sample.
    """

    def __init__(self, config: ModelConfig, items: EntityLookup) -> None:
        super().__init__()
        self.item_vectors = Vectors(items.vector)
        inputs = {name: items.vector.shape[1] for name in ("item", "history", "interest")}
        inputs["similarity"] = SIMILARITY_BINS
        self.blocks = nn.ModuleDict({name: nn.Linear(inputs[name], config.dim) for name in config.content})
        self.width = config.dim * len(self.blocks)

    def forward(self, items: Tensor, recent: Tensor) -> Tensor:
        """Items (B,) and recent histories (B, T) padded with 0: (B, blocks * d)."""
        target = self.item_vectors(items)  # (B, D)
        read = {"item": lambda: target}
        if {"history", "interest", "similarity"} & set(self.blocks):
            entries, mask = self.item_vectors(recent), recent > 0  # (B, T, D), (B, T)
            known = mask & self.item_vectors.known[recent]

            def mean() -> Tensor:  # (B, D), no vector adds zeros
                return entries.sum(1) / known.sum(1, keepdim=True).clamp_min(1)

            def histogram() -> Tensor:
                cosine = torch.bmm(entries, target[..., None])[..., 0]  # (B, T)
                return similarity_histogram(cosine, known & self.item_vectors.known[items, None], mask)

            read |= {"history": mean, "interest": lambda: target * mean(), "similarity": histogram}
        return torch.cat([block(read[name]()) for name, block in self.blocks.items()], 1)


class Vectors(nn.Module):
    """Frozen vectors of unit length, zeros where there is none."""

    def __init__(self, vectors: Tensor) -> None:
        """Takes the vectors (N, D) of all ids."""
        super().__init__()
        self.register_buffer("vectors", F.normalize(vectors, dim=1), persistent=False)
        self.register_buffer("known", vectors.any(1), persistent=False)  # (N,)

    def forward(self, ids: Tensor) -> Tensor:
        """Ids of any shape to (..., D)."""
        return self.vectors.index_select(0, ids.flatten()).view(*ids.shape, -1)


class AlignedContent(nn.Module):
    """SaviorRec's use of content (arXiv 2508.01375), our reading of it.

    ``z~ = P z + sum_l A_l[code_l]``, A zero at first: codes move frozen vectors towards behaviour. Two attentions join
    them with ids in both directions: by the content of target and history over their ids, and the other way round.
    """

    def __init__(self, config: ModelConfig, items: EntityLookup) -> None:
        super().__init__()
        self.vectors, dim = Vectors(items.vector), config.dim
        self.project = nn.Linear(items.vector.shape[1], dim)
        codes = items.level_codes()
        self.register_buffer("codes", codes, persistent=False)  # (N, L)
        self.alignment = nn.EmbeddingBag(int(codes.max()) + 1, dim, mode="sum", sparse=True, padding_idx=0)
        nn.init.zeros_(self.alignment.weight)
        self.by_content = TargetAttention(dim, dim, dim, config.attention_hidden, value_dim=dim)
        self.by_id = TargetAttention(dim, dim, dim, config.attention_hidden, value_dim=dim)
        self.width = 3 * dim

    def forward(
        self, query: Tensor, target: Tensor, distinct: Tensor, individual: Tensor, position: Tensor, mask: Tensor
    ) -> Tensor:
        """Reads a batch.

        Args:
            query: (B, d) embeddings of the targets.
            target: (B,) row of the target in ``distinct``.
            distinct: (U,) distinct items of the batch.
            individual: (U, d) their embeddings.
            position: (B, T) rows of the recent history.
            mask: (B, T) bool, false for padding.

        Returns:
            (B, 3 d).
        """
        content = self.project(self.vectors(distinct)) + self.alignment(self.codes[distinct])  # (U, d)
        shown = content[target]
        by_content = self.by_content(shown, content, position, mask, individual)
        by_id = self.by_id(query, individual, position, mask, content)
        return torch.cat([shown, by_content, by_id], 1)


def similarity_histogram(cosine: Tensor, comparable: Tensor, mask: Tensor) -> Tensor:
    """log(1 + count) of cosines by bins of .1 [SimTier]; entries that cannot be compared fall in the last bin.

    Takes cosines, comparable and mask, all (B, T); gives (B, 22).
    """
    bins = (torch.ceil(cosine * 10) + 10).long().clamp(0, SIMILARITY_BINS - 2)
    bins = torch.where(comparable, bins, SIMILARITY_BINS - 1)
    counts = cosine.new_zeros(len(cosine), SIMILARITY_BINS)
    return counts.scatter_add_(1, bins, mask.to(counts.dtype)).log1p()
