"""Training of an RQ-VAE in one process: warm-up, k-means++ initialisation, training with dead-code reset."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from torch import Tensor

from akt_spark.config import QuantizerConfig
from akt_spark.semantic.arithmetic import Floats
from akt_spark.semantic.dead_codes import DeadCodes
from akt_spark.semantic.kmeans import kmeans
from akt_spark.semantic.moving_average import MovingAverage
from akt_spark.semantic.network import Network

PROGRESS_LINES = 10
COOL_DOWN = 1 / 3
MAX_SEED = 2**31 - 1  # faiss counts in 32 bits
MIN_INIT_ROWS, INIT_ROWS_A_CODE = 10_000, 20  # method.md 4.2


def train(x: Floats, config: QuantizerConfig) -> tuple[dict[str, Floats], int]:
    """Trains on normalised vectors (N, D).

    Returns:
        The weights as `rqvae.RqVae` names them, and how many dead codes were re-seeded.
    """
    rows = torch.from_numpy(np.ascontiguousarray(x))
    with _reproducible(config.seed):
        generator = torch.Generator().manual_seed(config.seed)
        network = Network(rows.shape[1], config)
        _warm_up(network, rows, config, generator)
        if config.kmeans_init:
            initialise(network, rows, generator)
        dead_codes = DeadCodes(network.codebooks, config.dead_code_share, generator)
        _fit(network, rows, config, generator, dead_codes)
    return _export(network), dead_codes.resets


@torch.no_grad()
def initialise(network: Network, rows: Tensor, generator: torch.Generator) -> None:
    """k-means++ on the residuals of every level, one level after the other (method.md 4.2)."""
    wanted = max(MIN_INIT_ROWS, INIT_ROWS_A_CODE * max(len(codebook) for codebook in network.codebooks))
    residual = network.encoder(rows[torch.randperm(len(rows), generator=generator)[:wanted]])
    for codebook in network.codebooks:
        seed = int(torch.randint(MAX_SEED, (), generator=generator))
        codebook.copy_(torch.from_numpy(kmeans(residual.numpy(), len(codebook), seed)))
        residual = residual - codebook[torch.cdist(residual, codebook).argmin(dim=1)]


def _warm_up(network: Network, rows: Tensor, config: QuantizerConfig, generator: torch.Generator) -> None:
    autoencoder = [*network.encoder.parameters(), *network.decoder.parameters()]
    optimiser = torch.optim.AdamW(autoencoder, lr=config.learning_rate)
    for step, batch in enumerate(_batches(rows, config.batch_size, config.warmup_steps, generator), start=1):
        loss = network.autoencoder_loss(batch)
        _step(optimiser, loss)
        if step == config.warmup_steps:
            error = loss.item() / batch.shape[1]
            print(f"  warm-up as a plain autoencoder: {step} steps, reconstruction error {error:.3f}", flush=True)


def _fit(
    network: Network, rows: Tensor, config: QuantizerConfig, generator: torch.Generator, dead_codes: DeadCodes
) -> None:
    groups = [{"params": [*network.encoder.parameters(), *network.decoder.parameters()]}]
    averages = None
    if config.codebook_update == "ema":
        averages = MovingAverage(network.codebooks, config.ema_decay)
    else:  # weight decay would pull rare codes to the origin
        groups.append({"params": list(network.codebooks), "weight_decay": 0.0})
    optimiser = torch.optim.AdamW(groups, lr=config.learning_rate)
    forget = averages.forget if averages else partial(_clear_moments, optimiser, network.codebooks)
    # towards the end the encoder must stand still: codes chase a moving latent space, and the slowest of them die
    rate = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: min(1.0, (1 - step / config.steps) / COOL_DOWN))
    for step, batch in enumerate(_batches(rows, config.batch_size, config.steps, generator), start=1):
        reconstruction, distances, codes, residuals = network.losses(batch)
        _step(optimiser, reconstruction + distances)
        rate.step()
        if averages:
            averages.update(codes, residuals)
        dead_codes.observe(codes)
        # a code re-seeded in the last interval would have no time to find its place
        if step % config.dead_code_steps == 0 and step <= config.steps - config.dead_code_steps:
            dead_codes.reset(codes, residuals, forget)
        if step % max(1, config.steps // PROGRESS_LINES) == 0:
            error, dead = reconstruction.item() / batch.shape[1], dead_codes.dead()  # vectors have variance 1
            print(f"  step {step}/{config.steps}: reconstruction error {error:.3f}, dead codes {dead}", flush=True)


def _clear_moments(
    optimiser: torch.optim.Optimizer, codebooks: Sequence[torch.nn.Parameter], level: int, rows: Tensor
) -> None:
    for name in ("exp_avg", "exp_avg_sq"):
        optimiser.state[codebooks[level]][name][rows] = 0


def _step(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()


def _batches(rows: Tensor, size: int, steps: int, generator: torch.Generator) -> Iterator[Tensor]:
    """``steps`` batches; every pass over the rows is a new permutation, its short last batch is left out."""
    size, left = min(size, len(rows)), steps
    while left:
        order = torch.randperm(len(rows), generator=generator)
        for start in range(0, len(rows) - size + 1, size)[:left]:
            yield rows[order[start : start + size]]
            left -= 1


@contextmanager
def _reproducible(seed: int) -> Iterator[None]:
    """One thread (sums in a fixed order) and a seeded global generator, both put back afterwards."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)


def _export(network: Network) -> dict[str, Floats]:
    weights: dict[str, Tensor] = {f"codebooks.{level}": book for level, book in enumerate(network.codebooks)}
    for name, mlp in (("encoder", network.encoder), ("decoder", network.decoder)):
        for layer, linear in enumerate(m for m in mlp if isinstance(m, torch.nn.Linear)):
            weights |= {f"{name}.{layer}.weight": linear.weight, f"{name}.{layer}.bias": linear.bias}
    return {name: value.detach().numpy().copy() for name, value in weights.items()}
