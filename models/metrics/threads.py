"""Frames worked on by several threads: for what OpenCV computes, which releases the interpreter's lock."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import cv2
import torch

from recapture.conf.heartbeat import beating

Given = TypeVar("Given")
Found = TypeVar("Found")


def over_threads(function: Callable[[Given], Found], given: Sequence[Given]) -> list[Found]:
    """Return function(item) for each item, in order, on as many threads as torch may use.

    OpenCV itself works with one thread meanwhile: its optical flow depends on the number of its own threads.
    """
    with _one_opencv_thread():
        threads = min(torch.get_num_threads(), len(given))
        if threads <= 1:
            return [function(item) for item in beating(given)]
        with ThreadPoolExecutor(threads) as pool:
            return list(beating(pool.map(function, given)))


@contextmanager
def _one_opencv_thread() -> Iterator[None]:
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
