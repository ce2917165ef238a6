"""What the ranker looks up for every item or user: static tensors, one row an id, row 0 for padding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace

import torch
from torch import Tensor

NONE, STUDENT, TEACHER = 0, 1, 2
SHUFFLE_SEED = 20_260_522  # one permutation for every seed and rank: the control differs from AKT-Rec in nothing else


@dataclass(frozen=True)
class EntityLookup:
    """Frozen features of all ids of one entity. Row 0 is padding and unknown; N is the largest index + 1.

    Attributes:
        attributes: (N, A) int64, hashed static attributes, 0 for missing. A may be 0.
        category: (N,) int64, hashed leaf category, 0 for none.
        codes: (N, L) int64, semantic ID, -1 where there is none. L is at least 1.
        activity: (N, F) float, activity features at the end of the training period.
        impressions: (N,) int64, in the training period.
        role: (N,) int64: NONE, STUDENT or TEACHER.
        vector: (N, D) float, content vector, zeros where there is none.
        other_codes: by name (N, L') int64, likewise in other codebooks.
    """

    attributes: Tensor
    category: Tensor
    codes: Tensor
    activity: Tensor
    impressions: Tensor
    role: Tensor
    vector: Tensor
    other_codes: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        named = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "other_codes"}
        lengths = {name: len(values) for name, values in (named | dict(self.other_codes)).items()}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"every tensor of a lookup has one row an id, but the rows are {lengths}")
        if self.codes.ndim != 2 or self.codes.shape[1] == 0:
            raise ValueError(f"codes must be (N, levels) with at least one level, not {tuple(self.codes.shape)}")

    def __len__(self) -> int:
        return len(self.impressions)

    def admitted(self, least: int) -> Tensor:
        """Ids with at least so many training impressions, (N,) bool; never the padding."""
        found = self.impressions >= least
        found[0] = False
        return found

    def level_codes(self) -> Tensor:
        """Row of every code of every id in one table of all levels: (N, L) int64, 0 where an id has no code."""
        sizes = self.codes.amax(0).clamp_min(0) + 1  # (L,)
        return torch.where(self.codes >= 0, self.codes + 1 + sizes.cumsum(0) - sizes, 0)

    def prefixes(self) -> Tensor:
        """Row of every prefix of every id in one table of all prefixes: (N, L) int64, 0 where an id has no code.

        Prefixes of length 1 come first, then those of length 2, and so on; no row belongs to two lengths.
        """
        rows, parent, first_free = [], torch.zeros(len(self), dtype=torch.int64), 1
        coded = self.codes[:, 0].new_ones(len(self), dtype=torch.bool)
        for code in self.codes.unbind(1):
            coded = coded & (code >= 0)
            row = torch.zeros_like(parent)
            distinct, position = torch.unique(
                torch.stack([parent, code], 1)[coded], dim=0, return_inverse=True
            )  # (P, 2), (ids with a code,)
            row[coded] = position + first_free
            first_free += len(distinct)
            rows.append(row)
            parent = row
        return torch.stack(rows, 1)

    def supported(self, rows: Tensor, least: int) -> Tensor:
        """Rows (N, L) of `prefixes` without those that fewer than ``least`` ids shown in training share: 0 there.

        The others are numbered anew, so that a table of them has no gaps.
        """
        shown = rows[self.impressions > 0].flatten()
        kept = torch.bincount(shown, minlength=int(rows.max()) + 1) >= least
        kept[0] = False
        return torch.where(kept[rows], kept.cumsum(0)[rows], 0)

    def taught(self, rows: Tensor) -> Tensor:
        """Which rows a teacher shares, of a table (P,) that `prefixes` or `level_codes` (N, L) index: (P,) bool."""
        shared = torch.bincount(rows[self.role == TEACHER].flatten(), minlength=int(rows.max()) + 1) > 0
        shared[0] = False
        return shared

    def with_codes(self, name: str) -> EntityLookup:
        """The same ids with the codes of a name: ``semantic``, ``random``, or another codebook where there is one."""
        if name == "random":
            return self.with_random_codes()
        return replace(self, codes=self.other_codes[name]) if name in self.other_codes else self

    def without_codes(self) -> EntityLookup:
        """The same ids, none of which has a code."""
        return replace(self, codes=torch.full_like(self.codes, -1))

    def with_random_codes(self) -> EntityLookup:
        """The same codes dealt to other ids, for the control without semantics: every cluster keeps its size."""
        coded = (self.codes[:, 0] >= 0).nonzero()[:, 0]
        order = torch.randperm(len(coded), generator=torch.Generator().manual_seed(SHUFFLE_SEED))
        codes = self.codes.clone()
        codes[coded] = self.codes[coded[order]]
        return replace(self, codes=codes)


def distinct(*ids: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Distinct ids (U,), so that each is looked up once, and for every argument the rows of its ids, in its shape."""
    found, row = torch.unique(torch.cat([part.flatten() for part in ids]), return_inverse=True)
    rows = row.split([part.numel() for part in ids])
    return found, [part.view(like.shape) for part, like in zip(rows, ids, strict=True)]
