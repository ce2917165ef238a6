from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from akt_spark.config import ModelConfig
from akt_spark.ranker.akt_rec import Ranker
from akt_spark.ranker.content_start import level_means, projected
from akt_spark.ranker.embedding import INITIAL_STD


@pytest.fixture
def partly(items):
    """Items of which every tenth has no vector."""
    vector = items.vector.clone()
    vector[::10] = 0.0
    return replace(items, vector=vector)


def embedding_of(items, users, **overrides):
    return Ranker(ModelConfig(transfer=False, **overrides), items, users, seed=1).item.embedding


def test_the_projection_is_orthogonal_has_the_spread_of_the_noise_and_is_the_same_for_every_seed():
    vectors = torch.randn(500, 32) + 3.0  # a large common part
    vectors[::5] = 0.0
    known = vectors.any(1)
    wide = projected(vectors, 32, std=0.05, draw=0)
    assert not wide[~known].any() and wide[known].std().item() == pytest.approx(0.05, rel=1e-3)
    unit = torch.nn.functional.normalize(vectors[known], dim=1)
    distances, kept = torch.pdist(unit), torch.pdist(wide[known])
    torch.testing.assert_close(kept, kept[0] / distances[0] * distances, rtol=1e-3, atol=0)
    torch.manual_seed(99)
    assert torch.equal(projected(vectors, 32, std=0.05, draw=0), wide)
    assert not torch.allclose(projected(vectors, 32, std=0.05, draw=1), wide)


def test_rows_of_prefixes_add_up_to_the_mean_of_those_that_share_all_codes(items):
    rows, values = items.prefixes(), torch.randn(120, 4)
    values[7] = 0.0  # has no value
    means, found = level_means(values, rows)
    sums = means[rows].sum(1)
    for i in (items.codes[:, 0] >= 0).nonzero()[:, 0].tolist():
        alike = (items.codes == items.codes[i]).all(1) & values.any(1)
        if alike.any():
            torch.testing.assert_close(sums[i], values[alike].mean(0))
    assert not found[0] and not means[0].any() and not means[~found].any()


def test_ids_and_clusters_start_from_content_and_what_has_none_keeps_its_noise(partly, users):
    noise = embedding_of(partly, users)
    start = embedding_of(partly, users, content_start=True)
    known = partly.vector.any(1)
    ids = torch.arange(1, 120)
    expected = projected(partly.vector, 16, INITIAL_STD, draw=0)
    torch.testing.assert_close(start.individual(ids)[known[1:]], expected[1:][known[1:]])
    assert torch.equal(start.individual(ids)[~known[1:]], noise.individual(ids)[~known[1:]])
    coded = (partly.codes[:, 0] >= 0).nonzero()[:, 0]
    values = projected(partly.vector, 16, INITIAL_STD, draw=1)
    means, _ = level_means(values, partly.prefixes())
    torch.testing.assert_close(start.cluster(coded), means[partly.prefixes()[coded]].sum(1))


def test_a_second_row_of_an_id_shows_another_side_of_its_vector(partly, users):
    start = embedding_of(partly, users, content_start=True, cluster_mode="per_id", normalise_cluster=False)
    known = partly.vector.any(1).nonzero()[:, 0]
    torch.testing.assert_close(start.cluster(known), projected(partly.vector, 16, INITIAL_STD, draw=1)[known])


def test_only_admitted_ids_take_rows_and_everything_else_starts_as_it_would(partly, users, batch):
    models = [
        Ranker(ModelConfig(item_admission=10, content_start=start), partly, users, seed=1) for start in (False, True)
    ]
    tables = [dict(model.named_parameters()) for model in models]
    changed = {name for name in tables[0] if not torch.equal(tables[0][name], tables[1][name])}
    assert changed == {"item.embedding.individual.weight", "item.embedding.prefix_rows.weight"}
    assert torch.equal(*(model.item.embedding.individual.weight[-1] for model in models)), "the row of all others"
    assert torch.isfinite(models[1](batch)).all()


def test_without_any_vector_everything_is_noise(items, users):
    bare = replace(items, vector=torch.zeros_like(items.vector))
    noise, start = embedding_of(bare, users), embedding_of(bare, users, content_start=True)
    assert torch.equal(noise.individual.weight, start.individual.weight)
    assert torch.equal(noise.prefix_rows.weight, start.prefix_rows.weight)
