"""The ranker for `torch.export`: the same numbers, by results whose sizes follow from the sizes of the inputs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from akt_spark.ranker.akt_rec import Ranker
from akt_spark.ranker.attention import TargetAttention


class StaticRanker(Ranker):
    """A `Ranker` that shortens nothing to what a batch happens to need, so that one graph fits every batch.

    It has the weights of a `Ranker` and does more work: ids are looked up as often as they occur, and searched
    histories have their full length.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for module in self.modules():
            if isinstance(module, TargetAttention):
                module.packs = False

    def _newest(self, history: Tensor, matches: Tensor) -> Tensor:
        """As `hard_search`, but as wide as it can be: (B, searched)."""
        keep = self.config.searched
        rank = matches.cumsum(1)  # (B, L), 1 for the newest match
        place = torch.where(matches & (rank <= keep), rank - 1, keep)  # what is not kept meets in a column more
        return history.new_zeros(history.shape[0], keep + 1).scatter(1, place, history)[:, :keep]

    @staticmethod
    def _distinct(*ids: Tensor) -> tuple[Tensor, list[Tensor]]:
        """All ids (U,), repeated as they are, and the rows of the ids of every argument, in its shape."""
        flat = torch.cat([part.flatten() for part in ids])
        rows = torch.arange(flat.shape[0], device=flat.device).split([part.numel() for part in ids])
        return flat, [part.view(like.shape) for part, like in zip(rows, ids, strict=True)]
