"""The ranker as a graph."""

from __future__ import annotations

import pytest
import torch

from akt_spark.config import RankerConfig
from akt_spark.ranker.akt_rec import Ranker
from akt_spark.ranker.presets import PRESETS
from akt_spark.ranker.static import StaticRanker
from akt_spark.serving.export import program, save_program
from ranker.conftest import make_batch

RANKERS = RankerConfig(variants={name: {"preset": name} for name in PRESETS})


@pytest.fixture
def pair(items, users):
    """A ranker whose zero-started weights have been moved, and its static twin."""

    def build(variant):
        ranker = Ranker(RANKERS.variant(variant), items, users, seed=1)
        with torch.no_grad():
            for parameter in ranker.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.05)
        ranker.refresh_snapshots()
        static = StaticRanker(RANKERS.variant(variant), items, users, seed=2)
        static.load_state_dict(ranker.state_dict())
        return ranker.eval(), static.eval()

    return build


@pytest.mark.parametrize("variant", PRESETS)
def test_results_of_fixed_size_give_the_same_scores(pair, batch, variant):
    ranker, static = pair(variant)
    assert batch["history"].shape[1] < ranker.config.searched
    torch.testing.assert_close(static(batch), ranker(batch))


@pytest.mark.parametrize("searched", [1, 3])
def test_only_the_newest_matches_are_kept(items, users, batch, searched):
    config = RANKERS.variant("recommended").model_copy(update={"searched": searched})
    ranker, static = (kind(config, items, users, 1).eval() for kind in (Ranker, StaticRanker))
    torch.testing.assert_close(static(batch), ranker(batch))


@pytest.mark.night  # seconds each; tests/serving/test_export.py exports one
@pytest.mark.parametrize("variant", PRESETS)
def test_the_saved_graph_scores_batches_of_any_size(pair, tmp_path, variant):
    ranker, static = pair(variant)
    save_program(program(static, history_length=40), tmp_path / "model.pt2")
    graph = torch.export.load(tmp_path / "model.pt2").module()
    for size in (1, 2, 50):
        batch = make_batch(size, 120, 60, 40, seed=size)
        inputs = {name: values for name, values in batch.items() if name not in ("label", "history_length")}
        with torch.no_grad():
            torch.testing.assert_close(graph(**inputs), torch.sigmoid(ranker(batch)))
