from __future__ import annotations

import numpy as np
import torch

from akt_spark.semantic.dead_codes import DeadCodes
from akt_spark.semantic.network import Network
from akt_spark.semantic.rqvae import RqVae
from akt_spark.semantic.training import initialise

from .conftest import SMALL
from .planted import planted


def fit(vectors: np.ndarray, **overrides) -> tuple[tuple[float, ...], int]:
    report = RqVae(SMALL.model_copy(update={"sizes": [32, 16], "steps": 300} | overrides)).fit(vectors)
    return report.coverage, report.resets


def test_dead_code_reset_cures_collapse() -> None:
    vectors = planted(2000, 24, 12)[0]
    collapsed, none = fit(vectors, kmeans_init=False, dead_code_share=0.0)
    cured, resets = fit(vectors, kmeans_init=False)
    assert (none, collapsed[0] < 0.6) == (0, True), collapsed
    assert resets > 0
    assert min(cured) > 0.9


def test_kmeans_initialisation_starts_without_dead_codes_and_close_to_the_data() -> None:
    rows = torch.from_numpy(planted(1000, 24, 12)[0])
    torch.manual_seed(0)
    network = Network(24, SMALL)
    latent = network.encoder(rows)
    random_codes, random_residuals = network.quantise(latent)
    initialise(network, rows, torch.Generator().manual_seed(1))
    codes, residuals = network.quantise(latent)
    assert len(torch.unique(codes[:, 0])) == 16 > len(torch.unique(random_codes[:, 0]))
    norms = [float(residual.norm(dim=1).mean()) for residual in residuals]
    assert norms == sorted(norms, reverse=True)  # method.md 9.1 item 10
    assert norms[-1] < 0.5 * float(random_residuals[-1].norm(dim=1).mean())


def test_a_dead_code_splits_the_most_populated_one_and_forgets_its_momentum() -> None:
    book = torch.nn.Parameter(torch.tensor([[0.0, 0.0], [5.0, 5.0], [90.0, 90.0]]))
    optimiser = torch.optim.AdamW([book], weight_decay=0.0)
    book.sum().backward()
    optimiser.step()
    before = book.detach().clone()
    follower = DeadCodes([book], share=0.1, generator=torch.Generator().manual_seed(1))
    residual = torch.tensor([[0.1, 0.0]] * 6 + [[5.0, 5.2]] * 2)
    codes = torch.tensor([[0]] * 6 + [[1]] * 2)
    for _ in range(60):
        follower.observe(codes)
    assert follower.dead() == [1]
    follower.reset(codes, [residual], optimiser)
    assert (book[2] - residual[0]).norm() < 0.2  # a residual of code 0, plus a little noise
    assert torch.equal(book[:2], before[:2])
    moments = optimiser.state[book]["exp_avg"]
    assert moments[2].abs().sum() == 0
    assert moments[0].abs().sum() > 0
    assert (follower.dead(), follower.resets) == ([0], 1)
