"""Fill a view once per seed, several at a time where there is room."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch

from recapture.conf.heartbeat import beat

CPU_PIXELS = 1 << 23  # of all fills of a batch: beyond it, memory of a host may not suffice
T = TypeVar("T")


def in_batches(
    seeds: Sequence[int], fill: Callable[[Sequence[int]], Sequence[T]], at_once: int
) -> Iterator[T]:
    """Yield what `fill` makes of each seed, called with up to `at_once` of them.

    Where the device's memory does not suffice, it is called again with half as many; one alone may fail.
    """
    done = 0
    while done < len(seeds):
        beat()
        part = seeds[done : done + at_once]
        try:
            made = fill(part)
        except torch.OutOfMemoryError:
            if len(part) == 1:
                raise
            at_once = len(part) // 2
            continue
        yield from made
        done += len(part)


def batch_size(seeds: int, pixels: int, device: torch.device, *, cached: bool) -> int:
    """Return how many fills of so many pixels may be tried at once.

    cached: a step cache decides by what a whole batch changes, so that each fill must be alone.
    """
    if cached:
        return 1
    return seeds if device.type == "cuda" else max(1, min(seeds, CPU_PIXELS // pixels))
