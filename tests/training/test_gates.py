"""The gate against activity."""

import torch

from akt_spark.ranker.lookup import EntityLookup
from akt_spark.training.gates import gate_bins


def lookup_of(impressions: list[int]) -> EntityLookup:
    size = len(impressions)
    zeros = torch.zeros(size, dtype=torch.int64)
    return EntityLookup(
        attributes=zeros[:, None],
        category=zeros,
        codes=zeros[:, None],
        activity=torch.zeros(size, 5),
        impressions=torch.tensor(impressions),
        role=zeros,
        vector=torch.zeros(size, 1),
    )


def test_ids_are_binned_by_the_power_of_two_of_their_impressions() -> None:
    lookup = lookup_of([0, 0, 1, 2, 3, 4, 8])  # the first is padding
    gate = torch.tensor([9.0, 0.1, 0.2, 0.3, 0.5, 0.6, 0.7])
    rows = gate_bins("item", gate, lookup)
    assert [(row["impressions_from"], row["impressions_to"], row["ids"]) for row in rows] == [
        (0, 1, 1),
        (1, 2, 1),
        (2, 4, 2),
        (4, 8, 1),
        (8, 16, 1),
    ]
    two_or_three = rows[2]
    assert abs(two_or_three["mean"] - 0.4) < 1e-6
    assert abs(two_or_three["p10"] - 0.32) < 1e-6
    assert abs(two_or_three["p90"] - 0.48) < 1e-6


def test_a_model_without_a_cluster_part_has_no_gate() -> None:
    assert gate_bins("user", None, lookup_of([0, 1])) == []
