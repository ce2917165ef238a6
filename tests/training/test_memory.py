"""Peak memory: seen although it is free again, and forgotten when it is asked for."""

import numpy as np

from akt_spark.training.memory import forget_peak, peak_gib


def test_a_peak_is_seen_after_the_memory_is_free_and_forgotten_before_the_next_training() -> None:
    forget_peak()
    before = peak_gib()
    held = np.ones(2**25)  # a quarter of a GiB, all of it touched
    during = peak_gib()
    del held
    assert during - before > 0.24
    assert peak_gib() > during - 0.01  # the system counts pages in batches
    forget_peak()
    assert peak_gib() < during - 0.2
