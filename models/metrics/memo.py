"""Findings that are kept for a while: other trajectories and stages of a worker ask for them again."""

from collections import OrderedDict
from collections.abc import Hashable
from threading import Lock
from typing import Generic, TypeVar

Found = TypeVar("Found")


class Memo(Generic[Found]):
    """The last findings, each under a key that says all it depends on; safe for threads."""

    def __init__(self, most: int) -> None:
        self._most, self._lock = most, Lock()
        self._found: OrderedDict[Hashable, Found] = OrderedDict()

    def get(self, key: Hashable) -> Found | None:
        """Return what was found; None if that is not kept."""
        with self._lock:
            if key in self._found:
                self._found.move_to_end(key)
            return self._found.get(key)

    def put(self, key: Hashable, found: Found) -> None:
        """Keep a finding, and drop the one that nobody asked for the longest if there are too many."""
        with self._lock:
            self._found[key] = found
            self._found.move_to_end(key)
            if len(self._found) > self._most:
                self._found.popitem(last=False)
