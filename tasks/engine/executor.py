"""Executors run stages over items. They know nothing of video, and stages know nothing of them."""

from __future__ import annotations

import logging
import os
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Protocol, Self

from recapture.conf.heartbeat import beat, seconds_since_beat
from recapture.conf.redact import without_credentials
from recapture.conf.schema import ExecutionConfig
from recapture.datasets.store.store import ArtifactStore
from recapture.tasks.engine.faults import DEVICE_LOST
from recapture.tasks.engine.feed import Feed
from recapture.tasks.engine.retry import RetryPolicy, StageSick, settle, sick_message
from recapture.tasks.engine.stage import Item, Outcome, Stage
from recapture.tasks.engine.system_metrics import Samples, node_sample
from recapture.tasks.engine.threads import limited_threads
from recapture.tasks.engine.worker import reason, work

logger = logging.getLogger(__name__)


class Executor(Protocol):
    """Something that runs a stage over items and returns exactly one outcome per item."""

    concurrent: bool  # whether `run` may be called from several threads at once

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def prepare(self, stages: Sequence[tuple[Stage, int]]) -> None:
        """Have workers started before `run` is called, from the main thread.

        stages: a stage and the number of its items for each call of `run` that is to come. Raises StageSick,
        for all stages at once, if there is no room for a worker of them.
        """
        ...

    def run(
        self,
        stage: Stage,
        items: Sequence[Item] | Feed,
        on_outcome: Callable[[Outcome], None],
        policy: RetryPolicy,
    ) -> list[Outcome]:
        """Work on all items; raise StageSick if the stage itself cannot work.

        on_outcome is called in the thread that calls `run`.
        """
        ...

    def stop(self, why: BaseException) -> None:
        """Make every `run`, now and later, raise `why`; called from another thread."""
        ...

    @property
    def gpus(self) -> int:
        """Return how many GPUs the job has worked with."""
        ...

    @property
    def clips(self) -> int | None:
        """Return how many clips in flight keep the workers busy; None: as many as there are."""
        ...

    @property
    def at_work(self) -> Sequence[tuple[str, str]]:
        """Return (stage, item) of the items that are worked on now, the oldest first; from any thread."""
        ...

    def node_samples(self) -> Samples:
        """Return what each node of the workers is busy with; from any thread."""
        ...


class InlineExecutor:
    """An executor that works through items in this process: for tests, debugging and small jobs.

    inputs_root: the dataset's URI; with it, an outage of the dataset's storage is told from a bad clip.
    An item that hangs cannot be stopped here, so it is only reported.
    """

    concurrent = False

    def __init__(self, store_root: str, inputs_root: str = "") -> None:
        self.store_root, self._inputs_root = store_root, inputs_root
        self._store, self._at_work = ArtifactStore(store_root), ""
        self._gpu_given = False  # to any stage
        self._current: tuple[str, str] | None = None  # stage and item

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release nothing."""

    def prepare(self, stages: Sequence[tuple[Stage, int]]) -> None:
        """Do nothing: stages are set up one after the other."""

    def stop(self, why: BaseException) -> None:
        """Do nothing: who calls this is not at work."""

    @property
    def gpus(self) -> int:
        import torch

        return int(self._gpu_given and torch.cuda.is_available())

    @property
    def clips(self) -> int | None:
        return None

    @property
    def at_work(self) -> Sequence[tuple[str, str]]:
        current = self._current
        return () if current is None else (current,)

    def node_samples(self) -> Samples:
        return {"": node_sample()}

    def run(
        self,
        stage: Stage,
        items: Sequence[Item] | Feed,
        on_outcome: Callable[[Outcome], None],
        policy: RetryPolicy,
    ) -> list[Outcome]:
        feed = items if isinstance(items, Feed) else Feed(stage, items)
        if not len(feed):
            return []
        with (
            limited_threads(stage.resources),
            reporting_silence(lambda: self._at_work, policy.timeout_seconds),
        ):
            return list(self._run(stage, feed, on_outcome, policy))

    def _run(
        self, stage: Stage, feed: Feed, on_outcome: Callable[[Outcome], None], policy: RetryPolicy
    ) -> Iterator[Outcome]:
        is_set_up = False
        for one in feed:
            if isinstance(one, Outcome):
                outcome = one
            else:
                if not is_set_up:
                    self._set_up(stage)
                    is_set_up = True
                outcome = settle(stage, self._tried(stage, one, policy))
            on_outcome(outcome)
            yield outcome

    def _set_up(self, stage: Stage) -> None:
        self._at_work = f"stage {stage.name!r}, setup"
        self._gpu_given |= stage.resources.gpus > 0
        try:
            stage.setup()
        except Exception as error:
            sick = StageSick(sick_message(stage, reason(error)))
            sick.add_note(without_credentials(traceback.format_exc()))
            raise sick from None

    def _tried(self, stage: Stage, item: Item, policy: RetryPolicy) -> Outcome:
        outcome = self._work(stage, item, 1)
        while outcome.status == "error" and policy.again(outcome):
            time.sleep(policy.pause(outcome))
            outcome = self._work(stage, item, outcome.attempts + 1)
        return outcome

    def _work(self, stage: Stage, item: Item, attempt: int) -> Outcome:
        self._at_work = f"stage {stage.name!r}, {item.name}"
        beat()
        self._current = (stage.name, item.name)
        outcome = work(stage, item, self._store, attempt, self._inputs_root)
        self._current = None
        if outcome.error_type == DEVICE_LOST:  # no other item would fare better here
            raise StageSick(sick_message(stage, f"this process has lost its GPU: {outcome.error}"))
        return outcome


@contextmanager
def reporting_silence(at_work: Callable[[], str], limit: float) -> Iterator[None]:
    """Log a warning each time that the work inside has made no progress for `limit` seconds."""
    beat()
    done = threading.Event()

    def watch() -> None:
        while not done.wait(max(0.1, limit - seconds_since_beat())):
            if (silence := seconds_since_beat()) >= limit:
                logger.warning(
                    "%s: no progress for %.0f s; it cannot be stopped here: interrupt the job, or run it "
                    "with execution.executor ray",
                    *(at_work(), silence),
                )
                done.wait(limit)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        done.set()


def open_executor(config: ExecutionConfig, store_root: str, inputs_root: str = "") -> Executor:
    """Return the configured executor, to be used as a context manager; inputs_root: see `InlineExecutor`."""
    if config.executor == "inline":
        return InlineExecutor(store_root, inputs_root)
    if config.ray_address is None and "RAY_ADDRESS" not in os.environ:
        # Ray reads this when it is imported: a Ray that this job starts then listens on loopback only.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    from recapture.tasks.engine.ray_executor import RayExecutor

    return RayExecutor(
        store_root, workers=config.workers, address=config.ray_address, inputs_root=inputs_root
    )
