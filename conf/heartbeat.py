"""A sign of progress: loops that do the work beat, so that slow work is told apart from work that hangs.

It is here, below everything, because loops on every floor beat. A process may work on several calls at once:
each has its own last beat. A thread belongs to the call in whose context it was started; the beats of a
thread that belongs to none count for all calls, because nobody knows whose they are.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")


class Call:
    """One call that this process works on."""

    def __init__(self) -> None:
        self.last = time.monotonic()
        self.waits = 0  # for something that another call holds, so it cannot make progress itself
        self.turns = 0  # that it has had on the device, see `conf.turn`
        self.withdrawn = False  # it ends at its first turn


_calls: dict[str, Call] = {}
_current: ContextVar[Call | None] = ContextVar("call", default=None)
_everyones = _last = time.monotonic()  # the last beat that counts for all calls; the last of any kind


def beat() -> None:
    """Report progress: one frame, window, step, file or block is done. Costs well below a microsecond."""
    global _everyones, _last
    now = time.monotonic()
    if (own := _current.get()) is None:
        _everyones = now
    else:
        own.last = now
    _last = now  # assignments only: safe from any thread


@contextmanager
def call(name: str) -> Iterator[Call]:
    """Make what runs inside, and the threads that get its context, one call with beats of its own."""
    entered = Call()
    token = _current.set(entered)
    _calls[name] = entered
    try:
        yield entered
    finally:
        _current.reset(token)
        if _calls.get(name) is entered:
            del _calls[name]


def call_named(name: str) -> Call | None:
    """Return a call that this process works on, if it does."""
    return _calls.get(name)


def current_call() -> Call | None:
    """Return the call that this thread works for, if any."""
    return _current.get()


@contextmanager
def waiting() -> Iterator[None]:
    """Mark the call as one that waits for another: it is not silent, however long that takes."""
    own = _current.get()
    if own is None:
        yield
        return
    own.waits += 1
    try:
        yield
    finally:
        own.waits -= 1
        beat()


def seconds_since_beat(name: str | None = None) -> float:
    """Return the time since the last progress of a call; None: of this process.

    0 for a call that waits for another one, has not begun or has ended: it does not hang itself.
    """
    if name is None:
        return time.monotonic() - _last
    found = _calls.get(name)
    if found is None or found.waits:
        return 0.0
    return time.monotonic() - max(found.last, _everyones)


def beating(items: Iterable[T]) -> Iterator[T]:
    """Yield the items; each one that is asked for means that the previous one is done."""
    for item in items:
        beat()
        yield item
    beat()
