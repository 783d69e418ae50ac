"""Gradients of one batch from several workers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

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
