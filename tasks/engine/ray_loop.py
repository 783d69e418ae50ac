"""The thread that owns Ray's state: other threads leave it messages, and so do Ray's calls when they end.

It neither polls calls nor waits for one of them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue

from recapture.tasks.engine.ray_cluster import Cluster
from recapture.tasks.engine.ray_pool import Entry, Lane, PoolWorker
from recapture.tasks.engine.ray_work import Work
from recapture.tasks.engine.stage import Item, Stage


class Loop:
    """The thread, as others use it."""

    def __init__(self, cluster: Cluster, workers: int | None) -> None:
        self._messages: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._work = Work(cluster, workers, self._messages.put)
        self._stopping = False
        self._broken: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="recapture-ray", daemon=True)
        self._thread.start()

    def announce(self, stages: Sequence[tuple[Stage, int]]) -> None:
        """Have workers started for lanes that will be opened. Raises StageSick if no node can hold one."""
        self._work.staff.check(stage for stage, _ in stages)
        self._messages.put(partial(self._work.announce, stages))

    def withdraw(self, stage: Stage) -> None:
        """Take note that a lane which was announced has nothing to do."""
        self._messages.put(partial(self._work.withdraw, stage))

    def open(self, lane: Lane) -> None:
        """Begin a lane: its items are submitted one by one."""
        self._messages.put(partial(self._open, lane))

    def submit(self, lane: Lane, item: Item) -> None:
        """Let an item be worked on; its outcome is told to the lane."""
        self._messages.put(partial(self._work.wait_for_worker, Entry(item, 1, lane)))

    def excuse(self, lane: Lane) -> None:
        """Take note that one item of a lane will not be submitted."""
        self._messages.put(partial(self._work.excuse, lane))

    def close(self, lane: Lane) -> None:
        """End a lane; items of it that are in flight are stopped with their workers."""
        self._messages.put(partial(self._work.close, lane))

    def release(self, *, stop: bool = False) -> None:
        """End all workers and wait until they are told; stop: then end the thread."""
        done = threading.Event()

        def act() -> None:
            self._stopping = stop
            self._work.release()
            done.set()

        self._messages.put(act)
        while not done.wait(0.1) and self._thread.is_alive():
            pass
        if stop:
            self._thread.join()

    @property
    def clips(self) -> int | None:
        """Return how many clips in flight keep the workers busy; None: as many as there are."""
        return self._work.staff.clips

    @property
    def gpus(self) -> int:
        """Return how many GPUs workers have had at once, at most."""
        return self._work.staff.gpus

    @property
    def workers(self) -> list[PoolWorker]:
        """Return all workers."""
        return [worker for pool in list(self._work.pools.values()) for worker in list(pool.workers)]

    def _open(self, lane: Lane) -> None:
        if self._broken is not None:
            lane.tell(self._broken)
        else:
            self._work.open(lane)

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._take_messages()
                self._work.shift()
        except BaseException as error:
            self._broken = error
            self._work.tell_all(error)
            with suppress(Exception):
                self._work.release()
            while not self._stopping:  # whoever comes later is told as well
                self._messages.get()()

    def _take_messages(self) -> None:
        """Wait for a message and act on all that have come by then."""
        wait, work = None, self._work
        if work.open_lanes:
            until = min(work.tick, work.later[0][0]) if work.later else work.tick
            wait = max(0.0, until - time.monotonic())
        with suppress(Empty):
            message = self._messages.get_nowait() if wait == 0 else self._messages.get(timeout=wait)
            while True:
                message()
                message = self._messages.get_nowait()
