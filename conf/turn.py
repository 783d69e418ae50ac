"""Turns: the exclusive use of a process's device by one of the calls that share the process.

It is here, below everything, because stages take turns and the engine counts them. While one call has its
turn, the others read, decompress, compress and write.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from recapture.conf.heartbeat import Call, call_named, current_call, waiting


class Withdrawn(Exception):
    """A call ends before its first turn, because it is wanted back: another process is free for it."""


@dataclass
class Turns:
    """What a call has used in its turns."""

    taken: int = 0
    seconds: float = 0.0  # inside turns, until the device has finished what they gave it
    peak_mb: float = 0.0  # of the device's memory, the highest of the turns


_counted: ContextVar[Turns | None] = ContextVar("turns", default=None)


class FairLock:
    """A lock that is given to those who wait in the order in which they came.

    It is passed on, not released for all: who releases it and takes it again comes after those who wait.
    """

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._owner: Hashable = None
        self._queue: deque[tuple[Hashable, threading.Lock]] = deque()

    def acquire(self, owner: Hashable) -> None:
        """Wait until the lock is the owner's, who must not hold it yet; raise Withdrawn in place of it."""
        with self._mutex:
            _check(owner)
            if self._owner is None:
                self._give(owner)
                return
            mine = (owner, threading.Lock())
            mine[1].acquire()
            self._queue.append(mine)
        try:
            with waiting():
                mine[1].acquire()
            _check(owner)
        except Withdrawn:
            raise  # it has left the queue already
        except BaseException:  # an interrupt: a turn that is never taken must not stop the others
            with self._mutex:
                passed_on = mine not in self._queue
                if not passed_on:
                    self._queue.remove(mine)
            if passed_on:
                self.release()
            raise

    def release(self) -> None:
        """Pass the lock on to the first one that waits."""
        with self._mutex:
            self._owner = None
            if self._queue:
                owner, ticket = self._queue.popleft()
                self._give(owner)
                ticket.release()

    def withdraw(self, call: Call) -> bool:
        """Have a call fail when it asks for its first turn, or waits for it; return False if it had one."""
        with self._mutex:
            if call.turns:
                return False
            call.withdrawn = True
            for one in [one for one in self._queue if one[0] is call]:
                self._queue.remove(one)
                one[1].release()
            return True

    def _give(self, owner: Hashable) -> None:
        self._owner = owner
        if isinstance(owner, Call):
            owner.turns += 1

    def held_by(self, owner: Hashable) -> bool:
        """Return whether the owner holds the lock."""
        return self._owner == owner


def _check(owner: Hashable) -> None:
    if isinstance(owner, Call) and owner.withdrawn:
        raise Withdrawn


_device = FairLock()


def withdraw(name: str) -> bool:
    """Have a call of this process end before its first turn; return whether it will."""
    found = call_named(name)
    return found is not None and _device.withdraw(found)


@contextmanager
def turn() -> Iterator[None]:
    """Use the device alone: no other call of this process computes on it inside, but on a stream of its own.

    Within a turn, another one of the same call is a part of it. Threads that a call starts with its context
    count as the call, so they must not compute on the device beside it. What is inside ends when its work is
    done; its seconds and the highest use of memory are those of the call, see `counted_turns`.
    """
    owner = _owner()
    if _device.held_by(owner):
        yield
        return
    _device.acquire(owner)
    counted = _counted.get()
    try:
        _begin()
        started = time.monotonic()
        try:
            yield
        finally:
            peak = _end()
            if counted is not None:
                counted.taken += 1
                counted.seconds += time.monotonic() - started
                counted.peak_mb = max(counted.peak_mb, peak)
    finally:
        _device.release()


@contextmanager
def counted_turns() -> Iterator[Turns]:
    """Count the turns that are taken inside."""
    counted = Turns()
    token = _counted.set(counted)
    try:
        yield counted
    finally:
        _counted.reset(token)


def _owner() -> Hashable:
    return current_call() or threading.get_ident()


def _begin() -> None:
    if (cuda := _cuda()) is not None:
        cuda.current_stream().synchronize()  # copies that were started before the turn are not its work
        cuda.reset_peak_memory_stats()


def _end() -> float:
    """Wait for the turn's work and return the highest use of the device's memory meanwhile, MB."""
    if (cuda := _cuda()) is None:
        return 0.0
    cuda.current_stream().synchronize()
    return float(cuda.max_memory_allocated()) / 2**20


def _cuda() -> Any:
    """Return torch.cuda if this process has begun to use it, else None; torch itself is not imported."""
    torch = sys.modules.get("torch")
    return torch.cuda if torch is not None and torch.cuda.is_initialized() else None
