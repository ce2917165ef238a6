"""What ranks exchange."""

import pytest
import torch

from akt_spark.errors import AktError
from akt_spark.training.exchange import InlineCommunicator, _merge, require_equal


def test_sparse_gradients_of_two_ranks_become_their_mean() -> None:
    """Table 0 is (5, 2), table 1 (3, 1). Rank 0 touched rows 1 and 4 of table 0; rank 1 row 4 of it and row 0 of 1."""
    rows = torch.tensor([*(2, 0, 1, 4), *(1, 1, 4, 0)])
    values = torch.tensor([*(1.0, 2.0, 3.0, 4.0), *(5.0, 6.0, 8.0)])
    first, second = _merge(rows, values, [torch.Size([5, 2]), torch.Size([3, 1])], world=2)
    assert first.indices().tolist() == [[1, 4]]
    assert first.values().tolist() == [[0.5, 1.0], [4.0, 5.0]]
    assert second.indices().tolist() == [[0]]
    assert second.values().tolist() == [[4.0]]


def test_ranks_without_any_row_are_merged_too() -> None:
    (merged,) = _merge(torch.tensor([0, 0]), torch.empty(0), [torch.Size([4, 3])], world=2)
    assert merged.indices().shape == (1, 0)
    assert merged.shape == (4, 3)


def test_ranks_with_different_bits_are_an_error() -> None:
    class OtherRankDiffers(InlineCommunicator):
        def gather(self, tensor: torch.Tensor) -> torch.Tensor:
            return torch.cat([tensor, tensor + 1])

    require_equal(InlineCommunicator(), [torch.ones(2)])
    with pytest.raises(AktError, match="different weights"):
        require_equal(OtherRankDiffers(), [torch.ones(2)])
