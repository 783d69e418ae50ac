"""Several workers that train one model: who they are, and the mean of their gradients."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed
from torch import Tensor

Reduce = Callable[[Sequence[Tensor]], None]


def mean_over_workers(gradients: Sequence[Tensor]) -> None:
    """Replace gradients, in place, by their mean over all workers of the default process group.

    One message for all of them. A value that is not finite on one worker is so on all, so that they stop
    together.
    """
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    torch.distributed.all_reduce(flat)
    flat /= torch.distributed.get_world_size()
    for gradient, mean in zip(gradients, flat.split([gradient.numel() for gradient in gradients])):
        gradient.copy_(mean.view_as(gradient))


@dataclass(frozen=True)
class Workers:
    """This worker's rank among `size` workers of the default process group; one worker needs no group."""

    rank: int = 0
    size: int = 1

    @staticmethod
    def from_environment(environment: Mapping[str, str] | None = None) -> Workers:
        """Join the group that `torchrun` describes in RANK and WORLD_SIZE; without these, work alone.

        On a machine with GPUs the messages go through NCCL, and each worker takes the GPU LOCAL_RANK.
        """
        given = os.environ if environment is None else environment
        workers = Workers(int(given.get("RANK", 0)), int(given.get("WORLD_SIZE", 1)))
        if workers.size > 1 and not torch.distributed.is_initialized():
            backend = "nccl" if torch.cuda.is_available() else "gloo"
            if backend == "nccl":
                torch.cuda.set_device(int(given.get("LOCAL_RANK", 0)))
            torch.distributed.init_process_group(backend, timeout=timedelta(minutes=10))
        return workers

    @property
    def first(self) -> bool:
        """Return whether this worker writes the files."""
        return self.rank == 0

    def seed(self, seed: int) -> int:
        """Return a seed of this worker's own; the first keeps the given one."""
        return seed + 1009 * self.rank

    def average(self, gradients: Sequence[Tensor]) -> None:
        """Replace gradients, in place, by their mean over the workers."""
        if self.size > 1:
            mean_over_workers(gradients)

    def agree(self, stop: bool, device: torch.device | str) -> bool:
        """Return whether the first worker wants to stop; every worker must ask."""
        if self.size == 1:
            return stop
        said = torch.tensor([float(stop)], device=device)
        torch.distributed.broadcast(said, 0)
        return bool(said.item() > 0)

    def wait(self) -> None:
        """Wait until every worker is here."""
        if self.size > 1:
            torch.distributed.barrier()


ALONE = Workers()
