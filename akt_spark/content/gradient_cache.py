"""Gradients of a loss over more vectors than fit in memory with their graphs (GradCache, arXiv 2101.06983)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

Rng = tuple[Tensor, list[Tensor]]


def backward(
    forward: Callable[[np.ndarray], Tensor], parts: Sequence[np.ndarray], loss: Callable[[Tensor], Tensor]
) -> float:
    """Adds to the parameters' gradients those of one loss over the vectors of all parts; returns the loss.

    The parts are embedded without a graph; the loss of all their vectors gives each vector's gradient; every part is
    embedded again with a graph, under the random state that its dropout had, and passes its vectors' gradients on. So
    the gradients are those of one big batch, and only one part's graph is in memory at a time.

    Args:
        forward: places (b,) of the batch to vectors (b, dim).
        parts: disjoint places that together are 0 .. B - 1.
        loss: of vectors (B, dim), in the order of the places.
    """
    order = np.concatenate(parts)
    back = torch.from_numpy(np.argsort(order))
    if len(parts) == 1:
        value = loss(forward(parts[0])[back])
        value.backward()
        return value.item()
    states, vectors = [], []
    with torch.no_grad():
        for part in parts:
            states.append(_rng())
            vectors.append(forward(part))
    leaf = torch.cat(vectors).requires_grad_()
    value = loss(leaf[back.to(leaf.device)])
    value.backward()
    after = _rng()
    for part, state, gradient in zip(parts, states, leaf.grad.split([len(part) for part in parts]), strict=True):
        _set_rng(state)
        forward(part).backward(gradient)
    _set_rng(after)
    return value.item()


def _rng() -> Rng:
    return torch.get_rng_state(), torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []


def _set_rng(state: Rng) -> None:
    torch.set_rng_state(state[0])
    if state[1]:
        torch.cuda.set_rng_state_all(state[1])
