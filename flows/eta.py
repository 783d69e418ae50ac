"""How long a job still takes, estimated from its past items and from those of earlier jobs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import pyarrow.compute as pc

from recapture.conf.redact import without_credentials
from recapture.datasets.store.manifest import manifest_table
from recapture.tasks.engine.stage import Outcome

logger = logging.getLogger(__name__)
FEWEST = 3  # items of this job from which a stage's mean is taken; with fewer, earlier jobs count as well


@dataclass
class _Made:
    settled: int = 0
    items: int = 0  # that were made
    seconds: float = 0.0  # that they took


@dataclass(frozen=True)
class Left:
    """The time that is left; unknown: stages of which no item has ever been made are not counted."""

    seconds: float
    unknown: tuple[str, ...] = ()


class Eta:
    """Counts finished items. past: stage -> mean seconds of its items in earlier jobs; None: there are none.

    The work that is left, a mean item per item, is divided by the work per second that the job has done so
    far; before its first item, by how many items are worked on. A reused item takes no time, so where
    the rest of a stage exists already, it takes less than this.
    """

    def __init__(self, expected: Mapping[str, int], past: Callable[[str], float | None]) -> None:
        self._expected, self._past = expected, past
        self._made = {stage: _Made() for stage in expected}
        self._known: dict[str, float | None] = {}
        self._lock = threading.Lock()

    def add(self, outcome: Outcome) -> None:
        """Count a finished item."""
        with self._lock:
            made = self._made[outcome.stage]
            made.settled += 1
            if outcome.status == "ok":
                made.items += 1
                made.seconds += outcome.seconds

    def left(self, elapsed: float, at_work: int) -> Left | None:
        """Return the time left after `elapsed` seconds; None if nothing is known of it."""
        with self._lock:
            made = {stage: replace(one) for stage, one in self._made.items()}
        rest = {stage: self._expected[stage] - one.settled for stage, one in made.items()}
        means = {stage: self._mean(stage, made[stage]) for stage, count in rest.items() if count > 0}
        done = sum(one.seconds for one in made.values())
        work = sum(rest[stage] * mean for stage, mean in means.items() if mean is not None)
        unknown = tuple(stage for stage, mean in means.items() if mean is None)
        if means and len(unknown) == len(means):
            return None
        pace = done / elapsed if done and elapsed else float(max(1, at_work))
        return Left(work / pace, unknown)

    def _mean(self, stage: str, made: _Made) -> float | None:
        if made.items >= FEWEST:
            return made.seconds / made.items
        if stage not in self._known:
            self._known[stage] = self._past(stage)
        earlier = self._known[stage]
        if earlier is None:
            return made.seconds / made.items if made.items else None
        return (made.seconds + (FEWEST - made.items) * earlier) / FEWEST


def past_seconds(store: str, dataset: str) -> Callable[[str], float | None]:
    """Return the function stage -> mean seconds of the items that were ever made of a dataset.

    It returns None for a manifest that cannot be read: an estimate never stops a job.
    """

    def mean(stage: str) -> float | None:
        try:
            table = manifest_table(store, dataset, stage).select(["status", "seconds"])
        except Exception as error:
            logger.info(
                "no past items of stage %s for the estimate: %s", stage, without_credentials(str(error))
            )
            return None
        made = table.filter(pc.equal(table["status"], "ok"))
        return float(pc.mean(made["seconds"]).as_py()) if len(made) else None

    return mean


def duration(seconds: float) -> str:
    """Return a time for people: 40 s, 12 min, 3.5 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.1f} h"
