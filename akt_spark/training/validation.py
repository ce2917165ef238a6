"""Measures of predictions for a whole split, from all ranks, in memory that does not grow with its rows."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from akt_spark.training.exchange import Communicator

BITS = 20  # of a logit that count: its sign, its exponent and the first 11 of its fraction
BINS = 2**BITS


@torch.no_grad()
def validate(model: nn.Module, batches: Iterable[dict[str, Tensor]], communicator: Communicator) -> dict[str, float]:
    """AUC and log loss over the batches of all ranks together; the same numbers on every rank.

    Logits of one bin (`bins`) count as tied, so that counts are all that ranks keep and exchange. What is published is
    measured from ``serving.predictions``, exactly.

    Args:
        model: left in evaluation mode.
        batches: this rank's share of the split; shares may differ in size.
        communicator: adds up the counts.
    """
    model.eval()
    counts = torch.zeros(2, BINS, dtype=torch.float64)  # non-clicks, clicks
    loss = torch.zeros(1, dtype=torch.float64)
    for batch in batches:
        logits, labels = model(batch).cpu(), batch["label"].cpu()
        for label in (0, 1):
            counts[label] += torch.bincount(bins(logits[labels == label]), minlength=BINS)
        loss += F.binary_cross_entropy_with_logits(logits.double(), labels.double(), reduction="sum")
    communicator.average([counts, loss])
    return {"validation_auc": auc(*counts), "validation_log_loss": float(loss / counts.sum())}


def bins(logits: Tensor) -> Tensor:
    """The first `BITS` bits of float32 logits (B,) as integers (B,) from 0 that are ordered as the logits are."""
    pattern = (logits.float() + 0.0).view(torch.int32).long()  # minus zero becomes zero
    ordered = torch.where(pattern < 0, -(pattern & 0x7FFFFFFF) - 1, pattern)
    return (ordered + 2**31) >> (32 - BITS)


def auc(others: Tensor, clicks: Tensor) -> float:
    """Probability that a click outscores a non-click, ties counting half; NaN when one of the two is missing.

    Args:
        others: (K,) non-clicks by ascending score.
        clicks: (K,) clicks likewise.
    """
    below = others.cumsum(0) - others
    return float((clicks * (below + others / 2)).sum() / (clicks.sum() * others.sum()))
