"""A quantiser that is fitted once, on vectors with planted groups."""

from __future__ import annotations

import numpy as np
import pytest

from akt_spark.config import QuantizerConfig
from akt_spark.semantic.rqvae import RqVae

from .planted import planted

GROUPS = 12
# the rotation trick is the harder setting: more codes die without their reset
SMALL = QuantizerConfig(
    sizes=[16, 8, 8],
    hidden=[32],
    latent_dim=8,
    rotation_trick=True,
    batch_size=256,
    warmup_steps=100,
    steps=200,
)


@pytest.fixture(scope="session")
def vectors() -> np.ndarray:
    return planted(2000, 24, GROUPS)[0]


@pytest.fixture(scope="session")
def groups() -> np.ndarray:
    return planted(2000, 24, GROUPS)[1]


@pytest.fixture(scope="session")
def fitted(vectors: np.ndarray) -> RqVae:
    quantizer = RqVae(SMALL)
    quantizer.fit(vectors)
    return quantizer
