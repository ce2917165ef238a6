from __future__ import annotations

import numpy as np
import pytest

from akt_spark.errors import DataError
from akt_spark.semantic.sizing import Prefix, choose_sizes

from .planted import planted


def roles(count: int, every: int = 4) -> np.ndarray:
    return np.array(["teacher" if n % every == 0 else "student" for n in range(count)], object)


def test_clusters_have_20_to_200_ids_and_a_last_level_tells_them_apart() -> None:
    x = planted(4000, 16, 60)[0]
    chosen = choose_sizes(x, roles(4000), 4000, seed=1)
    assert chosen.sizes == [64, 32]  # 4000 / 64 is 63 ids
    assert "64 (median cluster 6" in chosen.why
    assert "wanted: median 20 to 200, head coverage 0.90; not 128 (median cluster" in chosen.why
    assert choose_sizes(x, roles(4000), 4000, seed=1) == chosen


def test_a_larger_catalogue_gets_more_and_more_levels() -> None:
    x = planted(8000, 8, 200)[0]
    few, many = (choose_sizes(x, roles(8000), n, seed=1).sizes for n in (8000, 80_000))
    assert few == [128, 32]
    assert many == [32, 32, 32]  # 1024 clusters, of which the sample of a tenth has 8 each


def test_students_without_teachers_near_make_clusters_coarser() -> None:
    x, group = planted(4000, 16, 4, noise=0.05)
    everywhere = np.where(np.arange(4000) % 4 == 0, "teacher", "student").astype(object)
    apart = np.where((group == 0) & (np.arange(4000) % 200 < 2), "teacher", "student").astype(object)
    assert choose_sizes(x, everywhere, 4000, seed=1).sizes[0] == 64
    chosen = choose_sizes(x, apart, 4000, seed=1)
    assert "no size meets both, this is the nearest" in chosen.why
    rare = np.where(np.arange(4000) % 200 == 0, "teacher", "student").astype(object)
    assert choose_sizes(x, rare, 4000, seed=1).sizes[0] < 64  # 20 teachers cannot be in 64 clusters


@pytest.mark.parametrize("count", [2, 5, 17, 60])
def test_a_small_catalogue_gets_sizes_that_can_be_fitted(count: int) -> None:
    sizes = choose_sizes(planted(count, 8, 3)[0], np.full(count, None, object), count, seed=1).sizes
    assert sizes[0] == 2
    assert max(sizes) <= count


def test_one_vector_alone_is_refused() -> None:
    with pytest.raises(DataError, match="1 distinct vectors"):
        choose_sizes(np.ones((5, 8), np.float32), roles(5), 5, seed=1)


def test_the_range_of_medians_is_judged_by_ratio() -> None:
    assert Prefix([8], 100, 0.95).misfit[0] == 0
    assert Prefix([8], 10, 0.95).misfit[0] == pytest.approx(Prefix([8], 400, 0.95).misfit[0])
    assert Prefix([8], 100, None).covers
    assert not Prefix([8], 100, 0.89).covers
