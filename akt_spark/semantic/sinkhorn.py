"""Codes that a batch uses evenly, by Sinkhorn's normalisations (method.md 4.2). For training only."""

from __future__ import annotations

import torch
from torch import Tensor

SHARPNESS, ROUNDS = 10.0, 5  # as in TorchEasyRec


@torch.no_grad()
def balanced_codes(distances: Tensor) -> Tensor:
    """The code of each row after Q = exp(-sharpness * z-scored distance) was made even over codes, then over rows.

    Args:
        distances: (N, K). In float64 and logarithms, so that far codes do not become zero.

    Returns:
        (N,): the largest entry of each row of Q.
    """
    cost = distances.double()
    cost = (cost - cost.mean()) / cost.std().clamp(min=1e-12)
    log_q = -SHARPNESS * (cost - cost.min())
    for _ in range(ROUNDS):
        log_q = log_q - log_q.logsumexp(dim=0, keepdim=True)
        log_q = log_q - log_q.logsumexp(dim=1, keepdim=True)
    return log_q.argmax(dim=1)
