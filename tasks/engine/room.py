"""Room in a worker: several items share it, unless one needs it alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from recapture.conf.heartbeat import waiting


@dataclass
class Company:
    """Who was in the room together with one who shared it."""

    came: bool = False


class Room:
    """A worker's memory: shared by the items that it works on, or given to one of them alone."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside: list[Company] = []
        self._alone = 0  # those who have the room alone or wait for that

    @contextmanager
    def shared(self) -> Iterator[Company]:
        """Share the room; wait while somebody needs it alone. Yield whether others came."""
        own = Company()
        with waiting(), self._changed:
            self._changed.wait_for(lambda: not self._alone)
            self._inside.append(own)
            if len(self._inside) > 1:
                for one in self._inside:
                    one.came = True
        try:
            yield own
        finally:
            with self._changed:
                self._inside = [one for one in self._inside if one is not own]
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Have the room alone; wait until those who share it have left."""
        with waiting(), self._changed:
            self._alone += 1
            try:
                self._changed.wait_for(lambda: not self._inside)
            except BaseException:
                self._left_alone()
                raise
            self._inside.append(Company())
        try:
            yield
        finally:
            with self._changed:
                self._inside.clear()
                self._left_alone()

    def _left_alone(self) -> None:
        self._alone -= 1
        self._changed.notify_all()
