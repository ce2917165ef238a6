from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import normalized_mutual_info_score as nmi

from akt_spark.semantic.controls import CategoryCodes, RandomCodes
from akt_spark.semantic.kinds import load_quantizer
from akt_spark.semantic.rqkmeans import RqKMeans

from .conftest import SMALL

RANDOM = SMALL.model_copy(update={"kind": "random"})
CATEGORY = SMALL.model_copy(update={"kind": "category"})
IDS = np.array([f"i{n:05d}" for n in range(2000)], object)


@pytest.fixture(scope="module")
def random(vectors: np.ndarray) -> RandomCodes:
    quantizer = RandomCodes(RANDOM)
    quantizer.fit(vectors, IDS)
    return quantizer


def test_random_codes_keep_the_cluster_sizes_of_kmeans_and_lose_their_meaning(
    random: RandomCodes, vectors: np.ndarray, groups: np.ndarray
) -> None:
    real = RqKMeans(SMALL)
    real.fit(vectors)
    sizes, drawn = (np.bincount(q.encode(vectors, IDS).codes[:, 0], minlength=16) for q in (real, random))
    assert random.sizes == real.sizes == (16, 8, 8)
    assert np.corrcoef(sizes, drawn)[0, 1] > 0.9  # the same shares, but for the luck of the draw
    assert nmi(groups, random.encode(vectors, IDS).codes[:, 0]) < 0.05


def test_random_codes_are_a_function_of_the_id_alone(random: RandomCodes, vectors: np.ndarray, tmp_path: Path) -> None:
    random.save(tmp_path / "model")
    order = np.random.default_rng(1).permutation(len(IDS))
    codes = load_quantizer(tmp_path / "model").encode(-vectors[order], IDS[order]).codes
    assert np.array_equal(codes, random.encode(vectors, IDS).codes[order])


def test_random_codes_explain_nothing(vectors: np.ndarray) -> None:
    assert RandomCodes(RANDOM).fit(vectors, IDS).unexplained_variance > 1


def test_categories_become_clusters_and_unknown_ones_share_code_zero(tmp_path: Path) -> None:
    vectors = np.array([[1, 0, 0], [1, 0.5, 0], [0, 0, 1]], np.float32)
    quantizer = CategoryCodes(CATEGORY)
    report = quantizer.fit(vectors, np.array(["film", "film", "book"], object))
    quantizer.save(tmp_path / "model")
    loaded = load_quantizer(tmp_path / "model")
    found = loaded.encode(vectors[[0, 1, 2, 0, 0]], np.array(["film", "film", "book", "toy", None], object))
    assert loaded.sizes == (3,)
    assert found.codes.tolist() == [[2], [2], [1], [0], [0]]
    assert found.distance[2] == 0  # the only book is the mean of its category
    assert found.margin.tolist() == [1.0] * 5  # no distance decides
    assert report.coverage == (2 / 3,)
    assert 0 < report.unexplained_variance < 0.2
