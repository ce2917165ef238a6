"""AUC and log loss of a whole split."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

from akt_spark.training.exchange import InlineCommunicator
from akt_spark.training.validation import auc, validate


def test_auc_equals_that_of_scikit_learn_with_ties() -> None:
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 2, 500), rng.integers(0, 20, 500) / 20
    assert auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


def test_auc_of_one_class_is_not_a_number() -> None:
    assert math.isnan(auc(np.ones(3), np.arange(3)))


def test_validation_covers_all_batches_in_evaluation_mode() -> None:
    class Scores(nn.Module):
        def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
            assert not self.training
            return batch["score"]

    batches = [
        {"score": torch.tensor([0.0, 2.0]), "label": torch.tensor([0.0, 1.0])},
        {"score": torch.tensor([1.0]), "label": torch.tensor([1.0])},
    ]
    metrics = validate(Scores(), batches, InlineCommunicator())
    assert metrics["validation_auc"] == 1.0
    expected = (math.log(2) + math.log1p(math.exp(-2)) + math.log1p(math.exp(-1))) / 3
    assert metrics["validation_log_loss"] == pytest.approx(expected, abs=1e-6)
