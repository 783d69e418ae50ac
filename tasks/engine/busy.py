"""How busy a job keeps its GPUs: the seconds of items' turns on them as a share of all that the GPUs had."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from recapture.tasks.engine.stage import Outcome


@dataclass
class _Stage:
    """What the items of one stage have used so far."""

    first: float  # moment at which its first item began
    last: float  # moment at which its last one so far ended
    seconds: float = 0.0  # in turns


class Busy:
    """Adds up the turns of a job's items. An item counts when it is told of, whichever thread tells.

    Turns of two processes that share a GPU by fractions count twice while both have theirs.
    """

    def __init__(self, started: float | None = None) -> None:
        self._started = time.monotonic() if started is None else started
        self._stages: dict[str, _Stage] = {}
        self._lock = threading.Lock()

    def add(self, outcome: Outcome) -> None:
        """Count an item that has just ended."""
        if not outcome.gpu_seconds:
            return
        now = time.monotonic()
        with self._lock:
            stage = self._stages.setdefault(outcome.stage, _Stage(now, now))
            stage.first = min(stage.first, max(self._started, now - outcome.seconds))
            stage.last = now
            stage.seconds += outcome.gpu_seconds

    def share(self, gpus: int) -> float | None:
        """Return the share of the job until now in which its GPUs were busy; None without GPUs."""
        seconds = sum(stage.seconds for stage in self._stages.values())
        return _share(seconds, gpus, time.monotonic() - self._started)

    def shares(self, gpus: int) -> dict[str, float]:
        """Return the same for each stage that uses them, from its first item to its last."""
        found = {
            name: _share(stage.seconds, gpus, stage.last - stage.first)
            for name, stage in self._stages.items()
        }
        return {name: share for name, share in found.items() if share is not None}


def _share(seconds: float, gpus: int, wall: float) -> float | None:
    return seconds / (gpus * wall) if gpus and seconds and wall > 0 else None
