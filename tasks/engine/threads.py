"""How many threads the libraries of a stage use."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from recapture.tasks.engine.stage import Resources


def thread_count(resources: Resources) -> int:
    """Return how many threads a worker's libraries may use."""
    return max(1, int(resources.cpus))


def set_threads(count: int) -> tuple[int, int]:
    """Set the thread counts of torch and OpenCV; return the previous ones."""
    import cv2
    import torch

    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(count)
    cv2.setNumThreads(count)
    return before


def announce_threads(count: int) -> None:
    """Have libraries that are yet to be imported in this process use so many threads."""
    os.environ.update(OMP_NUM_THREADS=str(count), MKL_NUM_THREADS=str(count))


def limit_threads(count: int) -> None:
    """Set the thread counts where `announce_threads` was called: a torch that is not imported stays so.

    Its import takes seconds, and it takes the announced count when a stage imports it.
    """
    import cv2

    if "torch" in sys.modules:
        set_threads(count)
    else:
        cv2.setNumThreads(count)


@contextmanager
def limited_threads(resources: Resources) -> Iterator[None]:
    """Limit torch and OpenCV to a worker's threads, so that sums round the same wherever a stage runs."""
    import cv2
    import torch

    torch_threads, cv2_threads = set_threads(thread_count(resources))
    try:
        yield
    finally:
        torch.set_num_threads(torch_threads)
        cv2.setNumThreads(cv2_threads)
