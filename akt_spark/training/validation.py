"""Predictions of all ranks for a whole split, and their measures."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from akt_spark.training.exchange import Communicator


@torch.no_grad()
def validate(model: nn.Module, batches: Iterable[dict[str, Tensor]], communicator: Communicator) -> dict[str, float]:
    """AUC and log loss over the batches of all ranks together; the same numbers on every rank.

    Args:
        model: left in evaluation mode.
        batches: this rank's share of the split; shares may differ in size.
        communicator: gathers logits and labels.
    """
    model.eval()
    pairs = [torch.empty(0, 2)]  # a rank may have no share
    pairs += [torch.stack([model(batch), batch["label"]], 1) for batch in batches]
    logits, labels = communicator.gather(torch.cat(pairs)).unbind(1)
    return {
        "validation_auc": auc(labels.numpy(), logits.numpy()),
        "validation_log_loss": float(F.binary_cross_entropy_with_logits(logits.double(), labels.double())),
    }


def auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Probability that a click (N,) outscores a non-click, ties counting half; NaN when one of the two is missing."""
    _, position, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[position]  # tied scores share the mean of their ranks
    clicks = int(labels.sum())
    others = len(labels) - clicks
    if clicks == 0 or others == 0:
        return float("nan")
    return float((ranks[labels > 0].sum() - clicks * (clicks + 1) / 2) / (clicks * others))
