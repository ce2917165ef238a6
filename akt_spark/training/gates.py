"""The activity gate of a trained ranker against activity: whether tail IDs lean on their cluster."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from akt_spark.ranker.lookup import EntityLookup


def gate_bins(entity: str, gate: Tensor | None, lookup: EntityLookup) -> list[dict[str, Any]]:
    """Rows of ``training.gates``: ids without impressions, then those with 1, 2-3, 4-7, 8-15 and so on.

    Args:
        entity: item or user.
        gate: weight r of the cluster part (N,) of every id, or None for a model without one.
        lookup: has the impressions (N,); row 0 is padding and left out.
    """
    if gate is None:
        return []
    weights, impressions = gate[1:].double().cpu(), lookup.impressions[1:]
    bins = torch.frexp(impressions.double()).exponent  # 0 for 0, then floor(log2 n) + 1
    rows = []
    for number in torch.unique(bins).tolist():
        members = weights[bins == number]
        p10, p90 = np.quantile(members.numpy(), [0.1, 0.9]).tolist()
        rows.append(
            {
                "entity": entity,
                "impressions_from": 2 ** (number - 1) if number else 0,
                "impressions_to": 2**number,
                "ids": len(members),
                "mean": members.mean().item(),
                "p10": p10,
                "p90": p90,
            }
        )
    return rows
