from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import normalized_mutual_info_score as nmi

from akt_spark.errors import DataError
from akt_spark.semantic.arithmetic import squared_distances
from akt_spark.semantic.kinds import load_quantizer, new_quantizer
from akt_spark.semantic.kmeans import kmeans
from akt_spark.semantic.rqkmeans import RqKMeans

from .conftest import SMALL
from .planted import planted

CONFIG = SMALL.model_copy(update={"kind": "rqkmeans"})
FIT_AND_ASSIGN = """
import sys, numpy as np
from akt_spark.semantic.kinds import load_quantizer
found = load_quantizer("model").encode(np.load("x.npy"))
np.savez("found.npz", codes=found.codes, distance=found.distance, margin=found.margin)
print([name for name in ("faiss", "torch") if name in sys.modules])
for name in sys.argv[1].split():
    __import__(name)
from akt_spark.config import QuantizerConfig
from akt_spark.semantic.kinds import new_quantizer
again = new_quantizer(load_quantizer("model").config)
again.fit(np.load("x.npy"))
print(again.digest)
"""


@pytest.fixture(scope="module")
def fitted(vectors: np.ndarray) -> RqKMeans:
    quantizer = RqKMeans(CONFIG)
    quantizer.fit(vectors)
    return quantizer


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_codes_do_not_depend_on_the_batch(fitted: RqKMeans, vectors: np.ndarray, size: int) -> None:
    rows = vectors[:1100]
    whole = fitted.encode(rows)
    batches = [fitted.encode(rows[start : start + size]) for start in range(0, len(rows), size)]
    for column in ("codes", "distance", "margin"):
        found = np.concatenate([getattr(batch, column) for batch in batches])
        assert np.array_equal(found, getattr(whole, column))  # to the last bit


@pytest.mark.night
@pytest.mark.parametrize(("threads", "imports"), [("1", "faiss torch"), ("2", "torch faiss")])
def test_model_and_codes_are_the_same_in_another_process_with_other_threads_beside_torch(
    fitted: RqKMeans, vectors: np.ndarray, tmp_path: Path, threads: str, imports: str
) -> None:
    fitted.save(tmp_path / "model")
    np.save(tmp_path / "x.npy", vectors)
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    done = subprocess.run(
        [sys.executable, "-c", FIT_AND_ASSIGN, imports],
        cwd=tmp_path,
        env=os.environ | dict.fromkeys(names, threads),
        capture_output=True,
        text=True,
        check=True,
    )
    found, expected = np.load(tmp_path / "found.npz"), fitted.encode(vectors)
    for column in ("codes", "distance", "margin"):
        assert np.array_equal(found[column], getattr(expected, column))
    lines = done.stdout.strip().splitlines()
    assert lines[0] == "[]"  # workers that only assign need neither
    assert lines[-1] == fitted.digest


def test_a_folder_is_read_back_as_the_kind_that_it_names(fitted: RqKMeans, tmp_path: Path) -> None:
    fitted.save(tmp_path / "model")
    loaded = load_quantizer(tmp_path / "model")
    assert type(loaded) is type(new_quantizer(CONFIG)) is RqKMeans
    assert loaded.digest == fitted.digest


def test_every_level_is_used_and_explains_more(vectors: np.ndarray) -> None:
    reports = [
        RqKMeans(CONFIG.model_copy(update={"sizes": sizes})).fit(vectors) for sizes in ([16], [16, 8], [16, 8, 8])
    ]
    unexplained = [report.unexplained_variance for report in reports]
    assert unexplained == sorted(unexplained, reverse=True)
    assert unexplained[-1] < 0.5
    assert reports[-1].coverage == (1.0, 1.0, 1.0)


def test_planted_groups_are_found(fitted: RqKMeans, vectors: np.ndarray, groups: np.ndarray) -> None:
    assert nmi(groups, fitted.encode(vectors).codes[:, 0]) > 0.9


def test_fewer_distinct_vectors_than_codes_are_refused(vectors: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"16 codes a level .* 15 distinct vectors"):
        RqKMeans(CONFIG).fit(np.repeat(vectors[:15], 10, axis=0))


def test_as_many_codes_as_distinct_vectors_are_each_of_them(vectors: np.ndarray) -> None:
    report = RqKMeans(CONFIG.model_copy(update={"sizes": [16, 16]})).fit(np.repeat(vectors[:16], 10, axis=0))
    assert report.coverage[0] == 1.0
    assert report.unexplained_variance < 1e-3


def test_kmeans_finds_separate_groups_and_repeats_itself() -> None:
    centres = np.array([[0, 0], [10, 0], [0, 10], [10, 10]], np.float32)
    x = np.repeat(centres, 50, axis=0) + 0.1 * np.random.default_rng(3).normal(size=(200, 2)).astype(np.float32)
    found = kmeans(x, 4, seed=5)
    assert squared_distances(centres, found).min(axis=1).max() < 0.01
    assert np.array_equal(found, kmeans(x, 4, seed=5))


def test_kmeans_starts_on_a_sample_and_ends_on_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    x = planted(4000, 24, 40)[0]
    found = kmeans(x, 8, seed=5)  # 2,048 rows are its sample
    monkeypatch.setattr("akt_spark.semantic.kmeans.REFINEMENTS", 0)
    of_the_sample = kmeans(x, 8, seed=5)
    errors = [squared_distances(x, centres).min(axis=1).mean() for centres in (found, of_the_sample)]
    assert errors[0] < errors[1]


def test_kmeans_survives_more_centres_than_distinct_rows() -> None:
    np.testing.assert_allclose(kmeans(np.ones((10, 3), np.float32), 4, seed=5), np.ones((4, 3)), atol=0.1)
