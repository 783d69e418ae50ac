"""A sign of progress: loops that do the work beat, so that slow work is told apart from work that hangs.

It is here, below everything, because loops on every floor beat. One process works on one item at a time, so
one moment per process is enough.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
_last = time.monotonic()


def beat() -> None:
    """Report progress: one frame, window, step, file or block is done. Costs well below a microsecond."""
    global _last
    _last = time.monotonic()  # one assignment: safe from any thread


def seconds_since_beat() -> float:
    """Return the time since the last progress of this process."""
    return time.monotonic() - _last


def beating(items: Iterable[T]) -> Iterator[T]:
    """Yield the items; each one that is asked for means that the previous one is done."""
    for item in items:
        beat()
        yield item
    beat()
