from __future__ import annotations

import numpy as np
import torch

from akt_spark.semantic.dead_codes import DeadCodes
from akt_spark.semantic.moving_average import MovingAverage
from akt_spark.semantic.network import Network
from akt_spark.semantic.residual import residual_codes
from akt_spark.semantic.rqvae import RqVae
from akt_spark.semantic.sinkhorn import balanced_codes
from akt_spark.semantic.training import _clear_moments, initialise
from akt_spark.semantic.unused_codes import occupy

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
    assert cured == (1.0, 1.0)


def test_codes_that_no_row_uses_go_where_the_error_is_and_the_others_stay() -> None:
    rows = np.random.default_rng(1).normal(size=(400, 6)).astype(np.float32)
    books = [np.concatenate([rows[:4], np.full((4, 6), 50 + level, np.float32)]) for level in range(2)]
    before = [book.copy() for book in books]
    codes, residuals, _ = residual_codes(rows, books)
    assert [len(np.unique(codes[:, level])) for level in range(2)] == [4, 4]
    assert occupy(rows, books) >= 8
    filled, left, _ = residual_codes(rows, books)
    assert [len(np.unique(filled[:, level])) for level in range(2)] == [8, 8]
    assert np.square(left[1]).sum() < np.square(residuals[1]).sum()
    assert all(np.array_equal(book[:4], old[:4]) for book, old in zip(books, before, strict=True))
    assert occupy(rows, books) == 0


def test_a_code_stays_unused_where_there_are_fewer_distinct_rows() -> None:
    rows = np.repeat(np.eye(3, dtype=np.float32), 5, axis=0)
    book = np.full((5, 3), 9, np.float32)
    occupy(rows, [book])
    assert len(np.unique(residual_codes(rows, [book])[0])) == 3


def test_many_equal_rows_do_not_keep_codes_from_the_others() -> None:
    rows = np.concatenate([np.zeros((500, 3)), np.random.default_rng(1).normal(20, 1, (20, 3))]).astype(np.float32)
    book = np.full((12, 3), 900, np.float32)
    book[0], book[1] = 0, 20  # the fullest code stands on all its rows
    occupy(rows, [book])
    assert len(np.unique(residual_codes(rows, [book])[0])) == 12


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


def test_a_dead_code_splits_the_most_populated_one_and_is_reported() -> None:
    book = torch.nn.Parameter(torch.tensor([[0.0, 0.0], [5.0, 5.0], [90.0, 90.0]]))
    before, forgotten = book.detach().clone(), []
    follower = DeadCodes([book], share=0.1, generator=torch.Generator().manual_seed(1))
    residual = torch.tensor([[0.1, 0.0]] * 6 + [[5.0, 5.2]] * 2)
    codes = torch.tensor([[0]] * 6 + [[1]] * 2)
    for _ in range(60):
        follower.observe(codes)
    assert follower.dead() == [1]
    follower.reset(codes, [residual], lambda level, rows: forgotten.append((level, rows.tolist())))
    assert (book[2] - residual[0]).norm() < 0.2  # a residual of code 0, plus a little noise
    assert torch.equal(book[:2], before[:2])
    assert forgotten == [(0, [2])]
    assert (follower.dead(), follower.resets) == ([0], 1)


def test_gradient_codes_forget_their_momentum() -> None:
    books = [torch.nn.Parameter(torch.ones(3, 2))]
    optimiser = torch.optim.AdamW(books, weight_decay=0.0)
    books[0].sum().backward()
    optimiser.step()
    _clear_moments(optimiser, books, 0, torch.tensor([2]))
    moments = optimiser.state[books[0]]["exp_avg"]
    assert moments[2].abs().sum() == 0
    assert moments[0].abs().sum() > 0


def test_moving_averages_by_hand() -> None:
    book = torch.tensor([[1.0, 0.0], [0.0, 4.0]])
    averages = MovingAverage([book], decay=0.5)
    residuals = [torch.tensor([[3.0, 0.0], [5.0, 2.0], [1.0, 1.0]])]
    averages.update(torch.tensor([[0], [0], [0]]), residuals)
    # code 0: N = .5 * 1 + .5 * 3 = 2, m = .5 * (1, 0) + .5 * (9, 3) = (5, 1.5); code 1: both are halved
    assert torch.allclose(book, torch.tensor([[2.5, 0.75], [0.0, 4.0]]), atol=1e-3)
    book[1] = torch.tensor([7.0, 7.0])
    averages.forget(0, torch.tensor([1]))
    averages.update(torch.tensor([[1]]), [torch.tensor([[9.0, 9.0]])])
    assert torch.allclose(book[1], torch.tensor([8.0, 8.0]), atol=1e-3)  # half of one residual at 7, half of one at 9


def test_codes_as_moving_averages_have_no_gradient_and_find_the_data(vectors: np.ndarray) -> None:
    network = Network(24, SMALL.model_copy(update={"codebook_update": "ema"}))
    reconstruction, distances, _, _ = network.losses(torch.from_numpy(vectors[:64]))
    (reconstruction + distances).backward()
    assert all(book.grad is None for book in network.codebooks)
    assert network.encoder[0].weight.grad.abs().sum() > 0  # of reconstruction and commitment
    slow, quick = (
        RqVae(SMALL.model_copy(update={"codebook_update": "ema", "ema_decay": decay, "dead_code_share": 0.0}))
        for decay in (1.0, 0.9)
    )
    frozen, learned = slow.fit(vectors), quick.fit(vectors)
    assert learned.unexplained_variance < 0.9 * frozen.unexplained_variance  # codes that stay cannot follow the encoder


def test_sinkhorn_gives_every_code_its_share_and_leaves_clear_cases() -> None:
    generator = torch.Generator().manual_seed(1)
    distances = torch.rand(600, 4, generator=generator) + torch.tensor([0.0, 0.5, 0.5, 0.5])  # code 0 is always nearer
    assert torch.bincount(distances.argmin(dim=1), minlength=4)[0] > 300
    assert torch.bincount(balanced_codes(distances), minlength=4).min() > 120
    assert balanced_codes(1 - torch.eye(4)).tolist() == [0, 1, 2, 3]
    assert balanced_codes(torch.ones(5, 3)).tolist() == [0] * 5  # nothing to choose by


def test_sinkhorn_is_for_chosen_levels_and_for_training() -> None:
    network = Network(24, SMALL.model_copy(update={"sinkhorn_levels": [2]}))
    with torch.no_grad():
        network.codebooks[1][1:] += 3  # all but the first are far from everything
    latent = torch.randn(256, 8, generator=torch.Generator().manual_seed(1))
    training, nearest = (network.train(mode).quantise(latent)[0] for mode in (True, False))
    assert torch.equal(training[:, 0], nearest[:, 0])
    largest = [int(torch.bincount(codes[:, 1]).max()) for codes in (training, nearest)]
    assert largest[0] < 100 < 250 < largest[1]
