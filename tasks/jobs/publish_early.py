"""Publishing while a job runs: each result as soon as everything that its record names is settled."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from queue import SimpleQueue
from types import TracebackType
from typing import Self

from recapture.conf.redact import without_credentials
from recapture.datasets.store.store import ArtifactStore
from recapture.tasks.engine.planner import StagePlan
from recapture.tasks.engine.stage import Item, Outcome
from recapture.tasks.jobs.publish import publish_one

logger = logging.getLogger(__name__)
LATER = "%s cannot be published now: %s; it is tried again at the end of the job"


@dataclass
class _Result:
    """What is known of one result."""

    item: Item
    delivered: Outcome | None = None
    measured: Outcome | None = None


class EarlyPublisher:
    """A thread that publishes what a job has just made; the rest, and what fails here, is left to its end.

    stage: whose artifacts are published. measured_by: the stage whose metrics the record names; None: none.
    """

    def __init__(self, stage: str, measured_by: str | None, store: ArtifactStore, outputs: str) -> None:
        self._stage, self._measured_by, self._store, self._outputs = stage, measured_by, store, outputs
        self._lock = threading.Lock()
        self._open: dict[str, _Result] = {}
        self._queue: SimpleQueue[tuple[Item, Mapping[str, float]] | None] = SimpleQueue()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="recapture-publish", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Publish what waits; if the job was stopped, only end what is being written."""
        self._stopping = error is not None
        self._queue.put(None)
        self._thread.join()

    def expect(self, plan: StagePlan) -> None:
        """Announce the items of a plan."""
        if plan.stage.name == self._stage:
            with self._lock:
                self._open |= {item.name: _Result(item) for item in plan.items}

    def forget(self, plan: StagePlan) -> None:
        """Forget the items of a plan that are all settled."""
        if plan.stage.name == self._stage:
            with self._lock:
                for item in plan.items:
                    self._open.pop(item.name, None)

    def heard(self, outcome: Outcome) -> None:
        """Take note of an outcome of any stage, from any thread."""
        if outcome.stage not in (self._stage, self._measured_by):
            return
        with self._lock:
            found = self._open.get(outcome.item)
            if found is None:
                return
            if outcome.stage == self._stage:
                found.delivered = outcome
            else:
                found.measured = outcome
            made = [one for one in (found.delivered, found.measured) if one is not None]
            if len(made) <= (self._measured_by is not None):
                return
            del self._open[outcome.item]
        # What was there before is compared at the end of the job.
        if found.delivered is not None and found.delivered.usable and any(one.status == "ok" for one in made):
            self._queue.put((found.item, {} if found.measured is None else found.measured.metrics))

    def _run(self) -> None:
        failed = False
        while (one := self._queue.get()) is not None:
            if failed or self._stopping:
                continue
            try:
                publish_one(self._stage, *one, self._store, self._outputs)
            except Exception as error:
                failed = True
                problem = without_credentials(str(error)) or type(error).__name__
                logger.warning(LATER, one[0].name, problem)
