"""Data-parallel fan-out over Ray: stages run side by side on warm workers, each item on one of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Self

from recapture.tasks.engine.feed import Feed
from recapture.tasks.engine.ray_cluster import Cluster
from recapture.tasks.engine.ray_loop import Loop
from recapture.tasks.engine.ray_pool import Lane
from recapture.tasks.engine.ray_staff import FEWEST_CLIPS
from recapture.tasks.engine.retry import RetryPolicy, settle
from recapture.tasks.engine.stage import Item, Outcome, Stage
from recapture.tasks.engine.system_metrics import Samples


class RayExecutor:
    """Pools of warm workers, one per kind of resources; `run` may be called from several threads at once.

    Ray is started for the first item; a Ray that this process has started or joined before is left running.
    """

    concurrent = True

    def __init__(
        self,
        store_root: str,
        *,
        workers: int | None = None,
        address: str | None = None,
        inputs_root: str = "",  # see `InlineExecutor`
    ) -> None:
        self.store_root, self._workers = store_root, workers
        self._cluster = Cluster(store_root, address, inputs_root)
        self._lock = threading.Lock()
        self._made: Loop | None = None
        self._stopped: BaseException | None = None
        self._inboxes: set[SimpleQueue[Outcome | BaseException]] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._made is not None:
            self._made.release(stop=True)
            self._made = None
        self._cluster.disconnect()

    def prepare(self, stages: Sequence[tuple[Stage, int]]) -> None:
        if stages:
            self._cluster.connect()
            self._loop().announce(stages)

    def run(
        self,
        stage: Stage,
        items: Sequence[Item] | Feed,
        on_outcome: Callable[[Outcome], None],
        policy: RetryPolicy,
    ) -> list[Outcome]:
        feed = items if isinstance(items, Feed) else Feed(stage, items)
        if not len(feed):
            if self._made is not None:
                self._made.withdraw(stage)
            return []
        inbox: SimpleQueue[Outcome | BaseException] = SimpleQueue()
        lane = Lane(stage, policy, rank=feed.rank, left=len(feed), parts=feed.parts, tell=inbox.put)
        loop, done = self._loop(), list[Outcome]()

        def excused(outcome: Outcome) -> None:
            loop.excuse(lane)
            inbox.put(outcome)

        self._listen(inbox)
        loop.open(lane)
        try:
            feed.attach(lambda item: loop.submit(lane, item), excused)
            while len(done) < len(feed):
                event = inbox.get()
                if isinstance(event, BaseException):
                    raise event
                done.append(settle(stage, event))
                on_outcome(done[-1])
        finally:
            with self._lock:
                self._inboxes.discard(inbox)
            loop.close(lane)
        return done

    def stop(self, why: BaseException) -> None:
        """Make every `run`, now and later, raise `why`; what is in flight is stopped."""
        with self._lock:
            self._stopped = why
            inboxes = list(self._inboxes)
        for inbox in inboxes:
            inbox.put(why)

    def release(self) -> None:
        """End all workers."""
        if self._made is not None:
            self._made.release()

    @property
    def actors(self) -> list[Any]:
        """Return the workers."""
        return [] if self._made is None else [worker.actor for worker in self._made.workers]

    @property
    def gpus(self) -> int:
        """Return how many GPUs the workers have had at once, at most."""
        return 0 if self._made is None else self._made.gpus

    @property
    def clips(self) -> int | None:
        """Return how many clips in flight keep the workers busy; None: as many as there are."""
        return FEWEST_CLIPS if self._made is None else self._made.clips

    @property
    def at_work(self) -> Sequence[tuple[str, str]]:
        """Return (stage, item) of the items that are worked on now, the oldest first."""
        workers = [] if self._made is None else self._made.workers
        calls = sorted(
            (call for worker in workers for call in list(worker.calls)), key=lambda one: one.started
        )
        return [(call.hosted.name, call.entry.item.name) for call in calls]

    def node_samples(self) -> Samples:
        """Return what each node of the workers is busy with; a worker that does not answer is left out."""
        return dict(self._cluster.samples(self.actors))

    def _loop(self) -> Loop:
        with self._lock:
            if self._made is None:
                self._made = Loop(self._cluster, self._workers)
            return self._made

    def _listen(self, inbox: SimpleQueue[Outcome | BaseException]) -> None:
        with self._lock:
            self._inboxes.add(inbox)
            if self._stopped is not None:
                inbox.put(self._stopped)
