"""The loop that works on the items of all open lanes with all workers: one thread, which owns Ray's state.

Other threads leave it messages, and so do Ray's calls when they end: it neither polls them nor waits for one
of them. Ray neither restarts actors nor retries calls: this loop does both, so that a crash is attributed to
the item that was in flight and to no other.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

from ray.exceptions import RayActorError, RayError, RayTaskError

from recapture.conf.redact import without_credentials
from recapture.tasks.engine.ray_cluster import Cluster
from recapture.tasks.engine.ray_pool import Call, Entry, Hosted, Lane, Load, Pool, PoolWorker
from recapture.tasks.engine.ray_staff import Staff
from recapture.tasks.engine.retry import StageSick, sick_message
from recapture.tasks.engine.stage import Item, Outcome, Resources
from recapture.tasks.engine.worker import DEVICE_LOST, reason

TICK_SECONDS = 1.0  # between two looks at calls that may hang, and at what workers there should be
HUNG = "raise execution.timeout_seconds if it needs longer"
DEATHS_BEFORE_SICK = 3  # per worker, while nothing has succeeded yet; or in a row during setup


class Loop:
    """The thread that gives items to workers."""

    def __init__(self, cluster: Cluster, workers: int | None) -> None:
        self._cluster, self._staff = cluster, Staff(cluster, workers)
        self._messages: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._pools: dict[Resources, Pool] = {}
        self._later: list[tuple[float, int, Entry]] = []  # by the moment from which they wait
        self._delayed, self._tick = 0, 0.0
        self._stopping = False
        self._broken: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="recapture-ray", daemon=True)
        self._thread.start()

    # Called from any thread.

    def open(self, lane: Lane) -> None:
        """Begin a lane: its items are submitted one by one."""
        self._messages.put(partial(self._open, lane))

    def submit(self, lane: Lane, item: Item) -> None:
        """Let an item be worked on; its outcome is told to the lane."""
        self._messages.put(partial(self._wait_for_worker, Entry(item, 1, lane)))

    def excuse(self, lane: Lane) -> None:
        """Take note that one item of a lane will not be submitted."""
        self._messages.put(partial(self._excuse, lane))

    def close(self, lane: Lane) -> None:
        """End a lane; items of it that are in flight are stopped with their workers."""
        self._messages.put(partial(self._close, lane))

    def release(self, *, stop: bool = False) -> None:
        """End all workers and wait until they are told; stop: then end the thread."""
        done = threading.Event()

        def act() -> None:
            self._stopping = stop
            self._release()
            done.set()

        self._messages.put(act)
        while not done.wait(0.1) and self._thread.is_alive():
            pass
        if stop:
            self._thread.join()

    @property
    def slots(self) -> int | None:
        """Return how many items all workers take at once; None: for lack of room, kinds take turns."""
        return self._staff.slots

    @property
    def workers(self) -> list[PoolWorker]:
        """Return all workers."""
        return [worker for pool in list(self._pools.values()) for worker in list(pool.workers)]

    # The thread itself.

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._take_messages()
                self._take_up_due()
                if self._lanes and time.monotonic() >= self._tick:
                    self._tick = time.monotonic() + TICK_SECONDS
                    self._stop_hung()
                    self._staff.stale = True
                if self._staff.stale:
                    self._staff.adjust(self._pools.values())
                for pool in self._pools.values():
                    self._assign(pool)
        except BaseException as error:
            self._broken = error
            self._tell_all(error)
            with suppress(Exception):
                self._release()
            while not self._stopping:  # whoever comes later is told as well
                self._messages.get()()

    def _take_messages(self) -> None:
        """Wait for a message and act on all that have come by then."""
        wait = None
        if self._lanes:
            until = min(self._tick, self._later[0][0]) if self._later else self._tick
            wait = max(0.0, until - time.monotonic())
        with suppress(Empty):
            message = self._messages.get(timeout=wait) if wait != 0 else self._messages.get_nowait()
            while True:
                message()
                message = self._messages.get_nowait()

    def _take_up_due(self) -> None:
        now = time.monotonic()
        while self._later and self._later[0][0] <= now:
            self._wait_for_worker(heapq.heappop(self._later)[2])

    @property
    def _lanes(self) -> bool:
        return any(one.lanes for pool in self._pools.values() for one in pool.stages)

    def _open(self, lane: Lane) -> None:
        if self._broken is not None:
            lane.tell(self._broken)
            return
        try:
            self._cluster.connect()
            self._staff.check(lane.stage)
            resources = lane.stage.resources
            pool = self._pools.setdefault(resources, Pool(resources))
            lane.hosted = self._hosted(pool, lane)
        except Exception as error:
            lane.tell(error)
            return
        if not pool.left:
            pool.hung = 0
        if not lane.hosted.lanes:
            for worker in pool.workers:
                worker.doubted.add(lane.hosted)
        lane.hosted.lanes.add(lane)
        self._staff.stale = True

    def _hosted(self, pool: Pool, lane: Lane) -> Hosted:
        """Return the stage as the pool knows it already, or as a new one of the pool."""
        pickled = self._cluster.pickled(lane.stage)
        for known in pool.stages:
            if known.name == lane.stage.name and known.pickled == pickled:
                if not known.lanes:
                    known.forget()
                return known
        pool.stages = [one for one in pool.stages if one.lanes or one.name != lane.stage.name]
        pool.stages.append(Hosted(lane.stage, pickled, self._cluster.put(lane.stage)))
        return pool.stages[-1]

    def _wait_for_worker(self, entry: Entry) -> None:
        if not entry.lane.closed and entry.lane.hosted is not None:
            entry.lane.hosted.add(entry)

    def _excuse(self, lane: Lane) -> None:
        lane.left -= not lane.closed

    def _close(self, lane: Lane) -> None:
        lane.closed = True
        if lane.hosted is None:
            return
        lane.hosted.lanes.discard(lane)
        self._staff.stale = True
        if not lane.left:
            return
        lane.left = 0
        lane.hosted.purge()
        for pool in self._pools.values():
            for worker in list(pool.workers):
                of_the_lane = any(call.entry.lane is lane for call in worker.calls)
                useless = worker.load is not None and not worker.load.hosted.lanes
                if of_the_lane or useless:
                    self._dismiss(pool, worker)

    def _dismiss(self, pool: Pool, worker: PoolWorker) -> None:
        """End a worker; what else it works on waits for another one."""
        for call in worker.calls:
            call.over = True
            if not call.entry.lane.closed:
                self._wait_for_worker(call.entry)
        worker.calls.clear()
        if worker.load is not None:
            worker.load.over = True
        pool.workers.remove(worker)
        self._cluster.end(worker.actor)
        self._staff.stale = True

    def _release(self) -> None:
        for pool in self._pools.values():
            for worker in list(pool.workers):
                self._dismiss(pool, worker)

    def _tell_all(self, error: BaseException) -> None:
        for pool in self._pools.values():
            for one in pool.stages:
                for lane in list(one.lanes):
                    lane.tell(error)

    def _assign(self, pool: Pool) -> None:
        """Give items to the workers that can take one, later stages first; then set up what is to come."""
        if self._staff.gives_way(pool):
            return
        stages = pool.open
        for hosted in stages:
            while hosted.waiting and (worker := pool.free_for(hosted)) is not None:
                entry = hosted.next(alone=not worker.calls)
                if entry is None:
                    break  # only for a worker that works on nothing else
                self._call(worker, entry)
            while hosted.waiting > pool.loading(hosted) and (worker := pool.idle_without(hosted)) is not None:
                self._load(worker, hosted)
        for hosted in reversed(stages):
            loaded = sum(worker.has(hosted) for worker in pool.workers) + pool.loading(hosted)
            while loaded < hosted.left and (worker := pool.idle_without(hosted)) is not None:
                self._load(worker, hosted)
                loaded += 1

    def _call(self, worker: PoolWorker, entry: Entry) -> None:
        call = Call(worker, entry)
        worker.calls.add(call)
        future = self._cluster.run(worker.actor, entry.lane.stage.name, entry.item, entry.attempt)
        future.add_done_callback(lambda ended: self._messages.put(partial(self._returned, call, ended)))

    def _load(self, worker: PoolWorker, hosted: Hosted) -> None:
        load = worker.load = Load(worker, hosted)
        if worker.loaded.get(hosted.name) is hosted:
            future = self._cluster.greet(worker.actor, hosted.name)
        else:
            stay = [name for name, one in worker.loaded.items() if one.lanes and name != hosted.name]
            worker.loaded = {name: worker.loaded[name] for name in stay}
            future = self._cluster.load(worker.actor, hosted.reference, stay)
        worker.doubted.discard(hosted)
        future.add_done_callback(lambda ended: self._messages.put(partial(self._loaded, load, ended)))

    def _loaded(self, load: Load, ended: Future[Any]) -> None:
        if load.over:
            return
        worker, hosted, pool = load.worker, load.hosted, self._pools[load.hosted.stage.resources]
        try:
            problem = ended.result()
        except RayTaskError as error:
            # Not the setup itself, which returns its error: an import, or unpickling the stage.
            problem = reason(error.cause or error)
        except RayError as error:
            hosted.setups_died += 1
            workers = len(pool.workers)
            self._dismiss(pool, worker)
            if hosted.setups_died > DEATHS_BEFORE_SICK * workers:
                self._sick(hosted, f"a worker died while setting up: {first_line(error)}")
            return
        load.over, worker.load = True, None
        if problem:
            self._sick(hosted, problem)
            return
        hosted.setups_died, hosted.ready = 0, True
        worker.loaded[hosted.name] = hosted

    def _returned(self, call: Call, ended: Future[Any]) -> None:
        if call.over:
            return
        worker = call.worker
        try:
            outcome: Outcome = ended.result()
        except RayActorError as error:
            self._died(worker, "WorkerLost", f"its worker died: {first_line(error)}")
            return
        except RayError as error:
            cause = error.cause if isinstance(error, RayTaskError) else None
            cause = cause or error
            outcome = lost(call, type(cause).__name__, without_credentials(str(cause)))
        if outcome.error_type == DEVICE_LOST:
            self._died(worker, DEVICE_LOST, f"it lost its GPU: {outcome.error}", outcome)
            return
        self._over(call)
        self._settle(call.entry, outcome)

    def _died(
        self,
        worker: PoolWorker,
        kind: str,
        why: str,
        outcome: Outcome | None = None,
        hung: Call | None = None,
    ) -> None:
        """Replace a worker that has died or was stopped. The item in flight pays for it.

        If there were several, and it is not known which is to blame, none pays: each is tried again alone.
        """
        calls = list(worker.calls)
        suspects = calls if hung is None and len(calls) > 1 else []
        blamed = [hung] if hung is not None else calls if len(calls) == 1 else []
        pool = self._pools[calls[0].hosted.stage.resources]
        workers = len(pool.workers)
        for call in suspects:
            call.entry.alone = True
        for call in blamed:
            self._over(call)
        self._dismiss(pool, worker)  # those that are left wait again
        for call in blamed:
            self._settle(call.entry, outcome or lost(call, kind, why))
        for hosted in {call.hosted for call in calls}:
            hosted.deaths += 1
            attempts = max(call.entry.lane.policy.attempts for call in calls)
            if not hosted.succeeded and hosted.deaths > max(DEATHS_BEFORE_SICK, attempts) * workers:
                self._sick(hosted, f"{hosted.deaths} workers died, none succeeded; {why}")

    def _over(self, call: Call) -> None:
        call.over = True
        call.worker.calls.discard(call)

    def _settle(self, entry: Entry, outcome: Outcome) -> None:
        lane = entry.lane
        if lane.closed or lane.hosted is None:
            return
        if outcome.status == "error" and lane.policy.again(outcome):
            self._delayed += 1
            due = time.monotonic() + lane.policy.pause(outcome)
            again = Entry(entry.item, outcome.attempts + 1, lane, entry.alone)
            heapq.heappush(self._later, (due, self._delayed, again))
            return
        if outcome.status == "ok":
            lane.hosted.succeeded += 1
        lane.left -= 1
        lane.tell(outcome)

    def _stop_hung(self) -> None:
        for pool in self._pools.values():
            for worker in list(pool.workers):
                for call in list(worker.calls):
                    limit = call.entry.lane.policy.timeout_seconds
                    if not call.over and call.is_stuck(limit):
                        self._died(worker, "WorkerHung", f"no progress for {limit:.0f} s; {HUNG}", hung=call)
                if worker.load is not None and not worker.load.over and worker.load.hosted.lanes:
                    self._stop_hung_setup(pool, worker.load)

    def _stop_hung_setup(self, pool: Pool, load: Load) -> None:
        limit = max(lane.policy.setup_seconds for lane in load.hosted.lanes)
        if not load.is_stuck(limit):
            return
        self._dismiss(pool, load.worker)
        if not load.hosted.ready or not pool.workers:
            self._sick(
                load.hosted,
                f"a worker was not ready after {load.seconds:.0f} s and made no progress for "
                f"{limit:.0f} s: its setup hangs, or no node has room",
            )
        pool.hung += 1

    def _sick(self, hosted: Hosted, why: str) -> None:
        for lane in list(hosted.lanes):
            lane.tell(StageSick(sick_message(hosted.stage, why)))


def lost(call: Call, kind: str, why: str) -> Outcome:
    """Return the outcome of an item whose worker is gone."""
    item, stage = call.entry.item, call.hosted.name
    common = {"error_type": kind, "error": why, "attempts": call.entry.attempt, "seconds": call.seconds}
    return Outcome(item.name, item.clip_id, item.key, stage, "error", **common)  # type: ignore[arg-type]


def first_line(error: Exception) -> str:
    """Return the first line of an error that is not empty."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
