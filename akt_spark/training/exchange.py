"""What ranks say to each other: averages of gradients, gathered predictions, equal starting points."""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from copy import copy
from datetime import timedelta
from typing import Any, Protocol

import torch
from torch import Tensor

from akt_spark.errors import AktError

GROUPS_WANTED = {"HOROVOD_DYNAMIC_PROCESS_SETS": "1"}  # environment of ranks; every exchange takes a little longer
Exchanged = Callable[[], Tensor]  # of an exchange that has been started: waits for its end
PATIENCE = timedelta(days=1)  # at the end, ranks wait for a group that still trains; a dead one is noticed at once


class Communicator(Protocol):
    """The collectives of a training. Every rank must call the same ones in the same order.

    Tensors may lie on a GPU, all of a call on the same one; results lie where the arguments do.
    """

    rank: int
    world: int
    local_rank: int  # among the ranks of its machine

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replaces dense tensors of one dtype by their mean over the ranks, in one exchange."""

    def average_gradients(self, dense: Sequence[Tensor], sparse: Sequence[Tensor]) -> list[Tensor]:
        """`average` of dense tensors, and meanwhile the mean over the ranks of sparse row gradients (N, d).

        Returns:
            The latter, coalesced; rows that no rank touched stay absent.
        """

    def gather(self, tensor: Tensor) -> Tensor:
        """The tensors of all ranks, one after another along the first dimension; their lengths may differ."""

    def broadcast(self, tensors: Sequence[Tensor]) -> None:
        """Overwrites tensors with those of rank 0."""

    def split(self, groups: int) -> Communicator:
        """The communicator of this rank's group: neighbouring ranks, in as many groups of equal size."""


class InlineCommunicator:
    """One rank, alone in its process."""

    rank = 0
    world = 1
    local_rank = 0

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Nothing to do."""

    def average_gradients(self, dense: Sequence[Tensor], sparse: Sequence[Tensor]) -> list[Tensor]:
        """The sparse ones, coalesced."""
        return [gradient.coalesce() for gradient in sparse]

    def gather(self, tensor: Tensor) -> Tensor:
        """The tensor itself."""
        return tensor

    def broadcast(self, tensors: Sequence[Tensor]) -> None:
        """Nothing to do."""

    def split(self, groups: int) -> Communicator:
        """A rank alone is a group."""
        return self


class _Ranks(ABC):
    """What is the same whoever carries the messages."""

    rank: int
    world: int
    local_rank: int

    @abstractmethod
    def _mean(self, tensor: Tensor) -> Exchanged:
        """The mean over the ranks of a flat tensor."""

    @abstractmethod
    def _gathered(self, tensor: Tensor) -> Exchanged:
        """What `gather` gives."""

    @abstractmethod
    def _grouped(self, groups: Sequence[list[int]]) -> Communicator:
        """The communicator of the group that holds this rank, by ranks; all ranks name all groups."""

    def split(self, groups: int) -> Communicator:
        """A group of one rank has nobody to talk to."""
        size = self.world // groups
        if groups == 1:
            return self
        if size == 1:
            return InlineCommunicator()
        return self._grouped([list(range(first, first + size)) for first in range(0, self.world, size)])

    def gather(self, tensor: Tensor) -> Tensor:
        """See `Communicator`."""
        return self._gathered(tensor)()

    def average(self, tensors: Sequence[Tensor]) -> None:
        """One exchange of all tensors, laid end to end."""
        self._average(tensors)()

    def average_gradients(self, dense: Sequence[Tensor], sparse: Sequence[Tensor]) -> list[Tensor]:
        """Three exchanges under way at once: all dense tensors, which rows of all tables, and the values of these."""
        finish_dense = self._average(dense)
        local = [gradient.coalesce() for gradient in sparse]
        counts = torch.tensor([gradient.indices().shape[1] for gradient in local], device=local[0].device)
        rows = self._gathered(torch.cat([counts, *(gradient.indices()[0] for gradient in local)]))
        values = self._gathered(torch.cat([gradient.values().reshape(-1) for gradient in local]))
        finish_dense()
        return _merge(rows(), values(), [gradient.shape for gradient in local], self.world)

    def _average(self, tensors: Sequence[Tensor]) -> Callable[[], None]:
        """Starts `average`; the call of what it returns ends it."""
        mean = self._mean(torch.cat([tensor.detach().reshape(-1) for tensor in tensors]))

        def finish() -> None:
            for tensor, values in zip(tensors, mean().split([tensor.numel() for tensor in tensors]), strict=True):
                tensor.detach().copy_(values.view_as(tensor))

        return finish


class HorovodCommunicator(_Ranks):
    """One of the ranks that Horovod started. The collectives have fixed names, so that Horovod caches their plans.

    A Horovod that was built without NCCL carries what lies on a GPU through main memory.
    """

    def __init__(self) -> None:
        import horovod.torch as hvd

        os.environ.setdefault("HOROVOD_GLOO_TIMEOUT_SECONDS", "300")  # 30 are short on a busy machine
        hvd.init()
        self._hvd = hvd
        self.local_rank: int = hvd.local_rank()
        self._carries_gpu = bool(hvd.nccl_built())
        self._join(hvd.global_process_set)

    def _join(self, ranks: Any) -> None:
        """From here on, collectives are those of a process set."""
        self._set = ranks
        self.rank: int = ranks.rank()
        self.world: int = ranks.size()

    def _grouped(self, groups: Sequence[list[int]]) -> Communicator:
        """Horovod must have been started with `GROUPS_WANTED`."""
        sets = [self._hvd.add_process_set(ranks) for ranks in groups]
        group = copy(self)
        group._join(next(ranks for ranks in sets if ranks.included()))
        return group

    def _carried(self, tensor: Tensor) -> Tensor:
        return tensor.detach() if self._carries_gpu else tensor.detach().cpu()

    def _mean(self, tensor: Tensor) -> Exchanged:
        name = f"average.{tensor.dtype}.{len(tensor)}"
        started = self._hvd.allreduce_async(
            self._carried(tensor), op=self._hvd.Average, name=name, process_set=self._set
        )
        return lambda: self._hvd.synchronize(started).to(tensor.device)

    def _gathered(self, tensor: Tensor) -> Exchanged:
        name = f"gather.{tensor.dtype}.{tuple(tensor.shape[1:])}"
        started = self._hvd.allgather_async(self._carried(tensor), name=name, process_set=self._set)
        return lambda: self._hvd.synchronize(started).to(tensor.device)

    def broadcast(self, tensors: Sequence[Tensor]) -> None:
        """A broadcast of every tensor."""
        first = self._set.ranks[0]
        for number, tensor in enumerate(tensors):
            carried = self._carried(tensor)
            self._hvd.broadcast_(carried, first, name=f"broadcast.{number}", process_set=self._set)
            tensor.detach().copy_(carried)


class TorchCommunicator(_Ranks):
    """One of the ranks that PySpark's TorchDistributor started: gloo between CPUs, NCCL between GPUs."""

    def __init__(self) -> None:
        import torch.distributed as dist

        gpus = torch.cuda.is_available() and dist.is_nccl_available()
        dist.init_process_group("cpu:gloo,cuda:nccl" if gpus else "gloo", timeout=PATIENCE)
        self._dist = dist
        self.local_rank = int(os.environ["LOCAL_RANK"])
        self._join(dist.group.WORLD)

    def _join(self, group: Any) -> None:
        """From here on, collectives are those of a group."""
        self._group = group
        self.rank: int = self._dist.get_rank(group)
        self.world: int = self._dist.get_world_size(group)

    def _grouped(self, groups: Sequence[list[int]]) -> Communicator:
        made = [self._dist.new_group(ranks) for ranks in groups]
        group = copy(self)
        group._join(made[self.rank // len(groups[0])])
        return group

    def _mean(self, tensor: Tensor) -> Exchanged:
        started = self._dist.all_reduce(tensor, group=self._group, async_op=True)

        def finish() -> Tensor:
            started.wait()
            return tensor / self.world

        return finish

    def _gathered(self, tensor: Tensor) -> Exchanged:
        """Lengths first, then tensors that are padded to the longest; both are waited for at once."""
        tensor = tensor.detach()
        length = torch.tensor([len(tensor)], device=tensor.device)
        lengths = [torch.zeros_like(length) for _ in range(self.world)]
        self._dist.all_gather(lengths, length, group=self._group)
        longest = int(max(lengths))
        padded = tensor.new_zeros((longest, *tensor.shape[1:]))
        padded[: len(tensor)] = tensor
        parts = [torch.empty_like(padded) for _ in range(self.world)]
        self._dist.all_gather(parts, padded, group=self._group)
        found = torch.cat([part[: int(length)] for part, length in zip(parts, lengths, strict=True)])
        return lambda: found

    def broadcast(self, tensors: Sequence[Tensor]) -> None:
        """A broadcast of every tensor."""
        for tensor in tensors:
            self._dist.broadcast(tensor.detach(), group_src=0, group=self._group)


def _merge(rows: Tensor, values: Tensor, shapes: Sequence[torch.Size], world: int) -> list[Tensor]:
    """Takes apart what the ranks sent: for each, the row counts of all tables, then their rows; and the values."""
    indices: list[list[Tensor]] = [[] for _ in shapes]
    entries: list[list[Tensor]] = [[] for _ in shapes]
    row, value = 0, 0
    for _ in range(world):
        counts = rows[row : row + len(shapes)].tolist()
        row += len(shapes)
        for table, (count, shape) in enumerate(zip(counts, shapes, strict=True)):
            indices[table].append(rows[row : row + count])
            entries[table].append(values[value : value + count * shape[1]].view(count, shape[1]))
            row, value = row + count, value + count * shape[1]
    return [
        torch.sparse_coo_tensor(torch.cat(where)[None], torch.cat(what) / world, shape, device=values.device).coalesce()
        for where, what, shape in zip(indices, entries, shapes, strict=True)
    ]


def require_equal(communicator: Communicator, tensors: Sequence[Tensor]) -> None:
    """Checks that all ranks hold the same bits.

    Raises:
        AktError: when they do not; results of such a training mean nothing.
    """
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    mine = torch.tensor([int.from_bytes(digest.digest()[:8], "big", signed=True)])
    if len(torch.unique(communicator.gather(mine))) > 1:
        raise AktError("the ranks ended with different weights: the training is not usable; please report this")
