"""k-means of faiss: the only place that knows faiss. It is imported for fitting, never where IDs are assigned."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import faiss
import numpy as np

from akt_spark.semantic.arithmetic import Floats

ITERATIONS = 25


def kmeans(x: Floats, k: int, seed: int) -> Floats:
    """Centres (k, d) of all rows x (N, d), N >= k: k-means++ seeding, then Lloyd; an empty cluster splits a large one.

    One thread: the same rows and seed give the same bits, whatever OMP_NUM_THREADS says.
    """
    with _one_thread():
        run = faiss.Kmeans(
            x.shape[1],
            k,
            niter=ITERATIONS,
            seed=seed,
            init_method=faiss.ClusteringInitMethod_KMEANS_PLUS_PLUS,
            min_points_per_centroid=1,  # no warning
            max_points_per_centroid=len(x),  # no subsample: the caller has drawn one
        )
        run.train(np.ascontiguousarray(x))
    return run.centroids


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)
