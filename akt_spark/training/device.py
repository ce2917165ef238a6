"""Where a rank computes, and in which precision. What is here runs on a GPU unchanged; it was tested on CPUs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Literal

import torch
from torch import Tensor

from akt_spark.errors import ConfigError
from akt_spark.training.exchange import Communicator

CUBLAS_SETTING = ("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS sums in an order of its own


def device_of(communicator: Communicator, wanted: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """The device of a rank: of the GPUs of its machine the one with its local number, or the CPU.

    Raises:
        ConfigError: when ranks of a machine would have to share a GPU, or there is none where one is wanted.
    """
    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    number, there = communicator.local_rank, torch.cuda.device_count()
    if number >= there:
        raise ConfigError(
            f"training.device is {wanted}, but rank {communicator.rank} is number {number + 1} on its machine and sees "
            f"{there} GPUs: every rank needs one; lower training.ranks, or set training.device: cpu"
        )
    return torch.device("cuda", number)


def prepare(device: torch.device) -> None:
    """Settings of this process: one thread, since ranks share cores; on a GPU, sums in a fixed order."""
    torch.set_num_threads(1)
    torch.sparse.check_sparse_tensor_invariants.disable()  # the default, but torch warns until it is said
    if device.type == "cuda":
        os.environ.setdefault(*CUBLAS_SETTING)
        torch.cuda.set_device(device)  # also that of NCCL
        torch.use_deterministic_algorithms(True, warn_only=True)


def moved(batches: Iterable[dict[str, Tensor]], device: torch.device) -> Iterator[dict[str, Tensor]]:
    """The batches on a device; a GPU copies from pinned memory while it computes."""
    for batch in batches:
        if device.type == "cuda":
            batch = {name: values.pin_memory() for name, values in batch.items()}
        yield {name: values.to(device, non_blocking=True) for name, values in batch.items()}


def autocast(device: torch.device, precision: Literal["fp32", "bf16"]) -> torch.autocast:
    """A context in which matrix products are in bfloat16, or nothing changes; weights stay in float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
