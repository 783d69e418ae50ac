"""Work on a GPU beside the turn of another call: on a stream of its own, where memory has room for both.

It is for what a turn begins with and what leaves a GPU half idle: many small kernels, and waiting for the CPU
in between. Results do not depend on it, and what has no room is done within the turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")

# Bytes that must be free per pixel of a clip: twice what gathering from other frames takes at its peak, since
# the other call's turn may come to need more as well.
ROOM = 600


def beside(make: Callable[[], T], device: torch.device, pixels: int) -> T | None:
    """Return make(), computed on a stream of its own; None where there is no room, or none is left.

    pixels: of the clip, all frames together. What is returned is finished on the device; hand it over with
    `taken` where it is used. On a CPU nothing is done beside: its cores are those of the turn.
    """
    if device.type != "cuda" or torch.cuda.mem_get_info(device)[0] < ROOM * pixels:
        return None
    stream = _stream(device)
    try:
        with torch.cuda.stream(stream):
            made = make()
            stream.synchronize()
    except torch.OutOfMemoryError:
        return None
    return made


def taken(made: T) -> T:
    """Return what was made beside; its memory is not used again before what is queued here has used it."""
    for tensor in _tensors(made):
        if tensor.is_cuda:
            tensor.record_stream(torch.cuda.current_stream(tensor.device))
    return made


@cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    """Return the one stream of this process for such work: memory freed on it serves the next call on it."""
    return torch.cuda.Stream(device)


def _tensors(made: Any) -> Iterator[Tensor]:
    if isinstance(made, Tensor):
        yield made
    elif isinstance(made, Sequence) and not isinstance(made, str):
        for one in made:
            yield from _tensors(one)
    elif isinstance(made, Mapping):
        yield from _tensors(list(made.values()))
    elif is_dataclass(made):
        for field in fields(made):
            yield from _tensors(getattr(made, field.name))
