"""Reading beside the work: the next part of a clip is read while the caller works on one."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

T = TypeVar("T")
R = TypeVar("R")


def read_ahead(read: Callable[[T], R], parts: Sequence[T]) -> Generator[R, None, None]:
    """Yield what `read` returns of each part, in order; while the caller has one, the next is read.

    The first is read when it is asked for. An error comes out where its part would. Close the iterator to end
    the thread early. Beats of reading are those of the call.
    """
    if len(parts) < 2:
        yield from map(read, parts)
        return
    with ThreadPoolExecutor(1, "read-ahead") as thread:
        context = copy_context()
        coming = thread.submit(context.run, read, parts[0])
        for following in parts[1:]:
            found = coming.result()
            coming = thread.submit(context.run, read, following)
            yield found
        yield coming.result()


def on_host(arrays: Mapping[str, np.ndarray], device: torch.device) -> dict[str, Tensor]:
    """Return arrays as tensors in host memory from which copies to the device are fast and do not wait."""
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    if device.type != "cuda":
        return tensors
    return {name: tensor.pin_memory() for name, tensor in tensors.items()}


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor of `on_host` on the device; what computes with it there comes after the copy."""
    return tensor.to(device, non_blocking=tensor.is_pinned())
