"""k-means of faiss: the only place that knows faiss. It is imported for fitting, never where IDs are assigned."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import faiss
import numpy as np

from akt_spark.semantic.arithmetic import Floats

ITERATIONS, SAMPLE_ROWS_A_CENTRE = 25, 256  # of the start, which a sample finds as well as all rows
REFINEMENTS = 6  # iterations over all rows after it: most of what 25 of them would gain, at a third of the time


def kmeans(x: Floats, k: int, seed: int) -> Floats:
    """Centres (k, d) of rows x (N, d), N >= k: k-means++ seeding and Lloyd on a sample, then Lloyd on all rows.

    An empty cluster splits a large one. One thread: the same rows and seed give the same bits, whatever
    OMP_NUM_THREADS says.
    """
    x = np.ascontiguousarray(x)
    with _one_thread():
        centres = _lloyd(x, k, seed, ITERATIONS, SAMPLE_ROWS_A_CENTRE)
        if len(x) > k * SAMPLE_ROWS_A_CENTRE:
            centres = _lloyd(x, k, seed, REFINEMENTS, len(x), centres)
    return centres


def _lloyd(x: Floats, k: int, seed: int, iterations: int, rows_a_centre: int, start: Floats | None = None) -> Floats:
    run = faiss.Kmeans(
        x.shape[1],
        k,
        niter=iterations,
        seed=seed,
        init_method=faiss.ClusteringInitMethod_KMEANS_PLUS_PLUS,
        min_points_per_centroid=1,  # no warning
        max_points_per_centroid=rows_a_centre,  # more rows are sampled
    )
    run.train(x, init_centroids=start)
    return run.centroids


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)
