from __future__ import annotations

import numpy as np
import pytest

from akt_spark.config import QuantizerConfig
from akt_spark.semantic.relabel import agreeing_names
from akt_spark.semantic.rqvae import RqVae

from .conftest import SMALL


def test_codes_get_the_names_that_most_ids_had() -> None:
    old = np.array([[0, 1], [0, 1], [1, 0], [1, 1], [2, 0]], np.int32)
    new = np.array([[2, 0], [2, 0], [0, 1], [0, 0], [1, 1]], np.int32)  # the same clusters under other names
    names = agreeing_names(new, old, (3, 2))
    assert [list(name) for name in names] == [[1, 2, 0], [1, 0]]


def test_a_level_is_named_after_the_ids_whose_prefix_has_stayed() -> None:
    old = np.array([[0, 0], [0, 0], [0, 1], [1, 1], [1, 1], [1, 1], [1, 1]], np.int32)
    new = np.array([[0, 1], [0, 1], [0, 0], [0, 0], [0, 0], [1, 0], [1, 0]], np.int32)
    first, second = agreeing_names(new, old, (2, 2))
    assert list(first) == [0, 1]
    assert list(second) == [1, 0] or (second[new[:3, 1]] == old[:3, 1]).all()


@pytest.mark.parametrize("sizes", [(2, 4), (5, 3), (3, 2, 4)])
def test_other_sizes_and_more_levels_keep_every_name_once(sizes: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    old = np.stack([rng.integers(0, 3, 50), rng.integers(0, 2, 50)], axis=1).astype(np.int32)
    new = np.stack([rng.integers(0, size, 50) for size in sizes], axis=1).astype(np.int32)
    assert [sorted(name) for name in agreeing_names(new, old, sizes)] == [list(range(size)) for size in sizes]


def test_other_names_change_no_cluster_and_no_reconstruction(fitted: RqVae, vectors: np.ndarray) -> None:
    rng = np.random.default_rng(1)
    names = [rng.permutation(size).astype(np.int32) for size in fitted.sizes]
    renamed = fitted.relabelled(names)
    before, after = fitted.encode(vectors), renamed.encode(vectors)
    assert (
        np.stack([name[codes] for name, codes in zip(names, before.codes.T, strict=True)], axis=1) == after.codes
    ).all()
    assert (before.distance == after.distance).all()
    assert (fitted.decode(before.codes) == renamed.decode(after.codes)).all()
    assert renamed.digest != fitted.digest


def test_a_refresh_moves_at_most_a_third_of_what_it_moves_without_other_names(
    fitted: RqVae, vectors: np.ndarray
) -> None:
    other = RqVae(QuantizerConfig(**(SMALL.model_dump() | {"seed": 7})))
    other.fit(vectors)
    old, new = fitted.encode(vectors).codes, other.encode(vectors).codes
    names = agreeing_names(new[::2], old[::2], other.sizes)  # from a sample of the ids
    renamed = other.relabelled(names).encode(vectors).codes
    moved, moved_unaligned = ((codes[:, 0] != old[:, 0]).mean() for codes in (renamed, new))
    assert moved_unaligned > 0.6
    assert moved <= moved_unaligned / 3
