from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import normalized_mutual_info_score as nmi

from akt_spark.errors import DataError
from akt_spark.semantic.kinds import load_quantizer
from akt_spark.semantic.model_folder import DESCRIPTION, WEIGHTS
from akt_spark.semantic.network import Network
from akt_spark.semantic.residual import residual_codes
from akt_spark.semantic.rqvae import RqVae

from .conftest import SMALL

FIT_IN_A_NEW_PROCESS = """
import sys, numpy as np
from pathlib import Path
from akt_spark.semantic.kinds import load_quantizer
found = load_quantizer(Path(sys.argv[1])).encode(np.load(sys.argv[2]))
np.savez(sys.argv[3], codes=found.codes, distance=found.distance)
print("torch" in sys.modules)
"""


@pytest.fixture(scope="module")
def trained(vectors: np.ndarray) -> dict[str, str]:
    """Hashes of the codebooks that small trainings ended with, by what differed from the first of them."""
    quantizer = RqVae(SMALL.model_copy(update={"warmup_steps": 5, "steps": 30, "dead_code_steps": 10}))
    quantizer.fit(vectors[:600])
    return {"": hashlib.sha256(b"".join(book.tobytes() for book in quantizer.codebooks)).hexdigest()}


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_codes_do_not_depend_on_the_batch(fitted: RqVae, vectors: np.ndarray, size: int) -> None:
    rows = vectors[:1100]
    whole = fitted.encode(rows)
    batches = [fitted.encode(rows[start : start + size]) for start in range(0, len(rows), size)]
    assert np.array_equal(np.concatenate([batch.codes for batch in batches]), whole.codes)
    assert np.array_equal(np.concatenate([batch.distance for batch in batches]), whole.distance)  # to the last bit


def test_codes_do_not_depend_on_the_place_in_the_batch(fitted: RqVae, vectors: np.ndarray) -> None:
    order = np.random.default_rng(1).permutation(len(vectors))
    assert np.array_equal(fitted.encode(vectors[order]).distance, fitted.encode(vectors).distance[order])


@pytest.mark.parametrize("threads", [1, 2])
def test_codes_survive_saving_a_new_process_and_other_thread_counts(
    fitted: RqVae, vectors: np.ndarray, tmp_path: Path, threads: int
) -> None:
    fitted.save(tmp_path / "model")
    np.save(tmp_path / "x.npy", vectors)
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    command = [sys.executable, "-c", FIT_IN_A_NEW_PROCESS, "model", "x.npy", "found.npz"]
    environment = os.environ | dict.fromkeys(names, str(threads))
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    found, expected = np.load(tmp_path / "found.npz"), fitted.encode(vectors)
    assert np.array_equal(found["codes"], expected.codes)
    assert np.array_equal(found["distance"], expected.distance)
    assert done.stdout.strip() == "False"  # workers that only assign need no torch


def test_the_same_vectors_give_the_same_model_with_any_number_of_threads(fitted: RqVae, vectors: np.ndarray) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if threads > 1 else 2)
    try:
        torch.rand(3)  # the caller's random state must not matter
        again = RqVae(SMALL)
        again.fit(vectors)
    finally:
        torch.set_num_threads(threads)
    assert again.digest == fitted.digest


def test_another_seed_gives_another_model(fitted: RqVae, vectors: np.ndarray) -> None:
    other = RqVae(SMALL.model_copy(update={"seed": 2, "steps": 60}))
    other.fit(vectors)
    assert other.digest != fitted.digest


@pytest.mark.parametrize(
    "key",
    [
        {"rotation_trick": False},
        {"commitment": 1.0},
        {"codebook_update": "ema"},
        {"codebook_update": "ema", "ema_decay": 0.5},
        {"sinkhorn_levels": [2, 3]},
        {"sinkhorn_levels": [3]},
        {"warmup_steps": 6},
        {"kmeans_init": False},
        {"batch_size": 128},
        {"learning_rate": 0.01},
        {"dead_code_share": 0.9},
        {"dead_code_share": 0.9, "dead_code_steps": 7},
        {"hidden": [16]},
    ],
    ids=str,
)
def test_every_key_of_the_training_has_an_effect(vectors: np.ndarray, key: dict, trained: dict[str, str]) -> None:
    quantizer = RqVae(SMALL.model_copy(update={"warmup_steps": 5, "steps": 30, "dead_code_steps": 10} | key))
    quantizer.fit(vectors[:600])
    found = hashlib.sha256(b"".join(book.tobytes() for book in quantizer.codebooks)).hexdigest()
    assert found not in trained.values(), trained
    trained[str(key)] = found


def test_quantised_latent_and_last_residual_add_up_to_the_latent(fitted: RqVae, vectors: np.ndarray) -> None:
    latent = fitted.latent(vectors)
    codes, residuals, _ = residual_codes(latent, fitted.codebooks)
    quantised = sum(book[codes[:, level]] for level, book in enumerate(fitted.codebooks))
    np.testing.assert_allclose(quantised + residuals[-1], latent, atol=1e-5)


def test_residuals_shrink_level_by_level(fitted: RqVae, vectors: np.ndarray) -> None:
    residuals = residual_codes(fitted.latent(vectors), fitted.codebooks)[1]
    norms = [float(np.linalg.norm(residual, axis=1).mean()) for residual in residuals]
    assert norms == sorted(norms, reverse=True)
    assert norms[-1] < 0.6 * norms[0]


def test_numpy_inference_is_the_network_that_was_trained(fitted: RqVae, vectors: np.ndarray) -> None:
    network = Network(vectors.shape[1], SMALL)
    linears = [m for mlp in (network.encoder, network.decoder) for m in mlp if isinstance(m, torch.nn.Linear)]
    names = [f"{mlp}.{i}" for mlp in ("encoder", "decoder") for i in range(len(SMALL.hidden) + 1)]
    with torch.no_grad():
        for name, linear in zip(names, linears, strict=True):
            linear.weight.copy_(torch.from_numpy(fitted._weights[f"{name}.weight"]))
            linear.bias.copy_(torch.from_numpy(fitted._weights[f"{name}.bias"]))
        for book, values in zip(network.codebooks, fitted.codebooks, strict=True):
            book.copy_(torch.from_numpy(values))
        latent = network.encoder(torch.nn.functional.layer_norm(torch.from_numpy(vectors), [vectors.shape[1]]))
        codes, residuals = network.quantise(latent)
        decoded = network.decoder(residuals[0] - residuals[-1])
    found = fitted.encode(vectors)
    assert (found.codes == codes.numpy()).all(axis=1).mean() > 0.999  # a border may fall differently
    np.testing.assert_allclose(fitted.latent(vectors), latent.numpy(), atol=1e-4)
    np.testing.assert_allclose(fitted.decode(codes.numpy()), decoded.numpy(), atol=1e-3)


def test_planted_groups_are_found_and_random_codes_do_not_find_them(
    fitted: RqVae, vectors: np.ndarray, groups: np.ndarray
) -> None:
    first = fitted.encode(vectors).codes[:, 0]
    assert nmi(groups, first) > 0.9
    assert nmi(groups, np.random.default_rng(0).permutation(first)) < 0.1


def test_fewer_distinct_vectors_than_codes_are_refused_with_both_numbers(vectors: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"16 codes a level \(sizes \[16, 8, 8\]\).*15 distinct vectors.*at most 15"):
        RqVae(SMALL).fit(np.repeat(vectors[:15], 10, axis=0))


def test_a_damaged_or_unfinished_model_is_refused(fitted: RqVae, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no quantiser in"):
        load_quantizer(tmp_path / "nothing")
    fitted.save(tmp_path / "damaged")
    weights = tmp_path / "damaged" / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(DataError, match="damaged"):
        load_quantizer(tmp_path / "damaged")
    fitted.save(tmp_path / "damaged")  # a rerun repairs it
    assert load_quantizer(tmp_path / "damaged").digest == fitted.digest
    assert sorted(file.name for file in (tmp_path / "damaged").iterdir()) == [DESCRIPTION, WEIGHTS]
