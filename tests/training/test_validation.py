"""AUC and log loss of a whole split."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss, roc_auc_score
from torch import nn

from akt_spark.training.exchange import InlineCommunicator
from akt_spark.training.validation import auc, bins, validate


class Scores(nn.Module):
    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        assert not self.training
        return batch["score"]


def test_auc_equals_that_of_scikit_learn_with_ties() -> None:
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 2, 500), rng.integers(0, 20, 500)
    counts = [torch.from_numpy(np.bincount(scores[labels == label], minlength=20)).double() for label in (0, 1)]
    assert auc(*counts) == pytest.approx(roc_auc_score(labels, scores / 20), abs=1e-12)


def test_auc_of_one_class_is_not_a_number() -> None:
    assert math.isnan(auc(torch.zeros(3), torch.ones(3)))


def test_bins_are_ordered_as_logits_are() -> None:
    logits = torch.tensor([-torch.inf, -5.0, -1.001, -1.0, -1e-30, -0.0, 0.0, 1e-30, 1.0, 1.001, 5.0, torch.inf])
    found = bins(logits).tolist()
    assert found == sorted(found)
    assert found[5] == found[6]
    assert len(set(found)) == 11
    assert 0 <= found[0] < found[-1] < 2**20


def test_validation_covers_all_batches_in_evaluation_mode() -> None:
    draw = torch.Generator().manual_seed(1)
    labels = (torch.rand(20_000, generator=draw) < 0.3).float()
    scores = torch.randn(20_000, generator=draw) + labels - 1.5
    batches = [{"score": s, "label": y} for s, y in zip(scores.split(1500), labels.split(1500), strict=True)]
    metrics = validate(Scores(), batches, InlineCommunicator())
    assert metrics["validation_auc"] == pytest.approx(roc_auc_score(labels, scores), abs=1e-5)
    assert metrics["validation_log_loss"] == pytest.approx(log_loss(labels, scores.double().sigmoid()), abs=1e-6)


def test_ranks_add_up_their_counts() -> None:
    class AnotherRankWith(InlineCommunicator):
        """One more rank, whose batches were the given ones."""

        def __init__(self, batches) -> None:
            self.batches = batches

        def average(self, tensors) -> None:
            class Kept(InlineCommunicator):
                def average(self, others) -> None:
                    for tensor, other in zip(tensors, others, strict=True):
                        tensor.add_(other).div_(2)

            validate(Scores(), self.batches, Kept())

    one = [{"score": torch.tensor([0.0, 2.0]), "label": torch.tensor([0.0, 1.0])}]
    other = [{"score": torch.tensor([1.0]), "label": torch.tensor([1.0])}]
    both = validate(Scores(), one, AnotherRankWith(other))
    assert both == pytest.approx(validate(Scores(), one + other, InlineCommunicator()), abs=1e-12)
    without = validate(Scores(), [], AnotherRankWith(one + other))  # a rank may have no share
    assert without == pytest.approx(both, abs=1e-12)
