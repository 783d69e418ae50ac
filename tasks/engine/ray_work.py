"""The work on the items of all open lanes: which worker gets which, and what becomes of those that fail.

Ray neither restarts actors nor retries calls: this does both, so that a crash is attributed to the item that
was in flight and to no other. One thread calls it, see `ray_loop`.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any

from ray.exceptions import RayActorError, RayError, RayTaskError

from recapture.conf.redact import without_credentials
from recapture.tasks.engine.faults import DEVICE_LOST, WITHDRAWN, first_line
from recapture.tasks.engine.ray_cluster import Cluster
from recapture.tasks.engine.ray_help import Helpers
from recapture.tasks.engine.ray_order import Order
from recapture.tasks.engine.ray_pool import Call, Entry, Lane, Pool, PoolWorker, lost
from recapture.tasks.engine.ray_setups import DEATHS_BEFORE_SICK, Setups, give_up
from recapture.tasks.engine.ray_staff import Staff
from recapture.tasks.engine.stage import Outcome, Resources, Stage

TICK_SECONDS = 1.0  # between two looks at calls that may hang, and at what workers there should be
HUNG = "raise execution.timeout_seconds if it needs longer"


class Work:
    """All lanes and workers. post: leaves a message for the thread that calls this."""

    def __init__(
        self,
        cluster: Cluster,
        workers: int | None,
        post: Callable[[Callable[[], None]], None],
        order: Order | None = None,
    ) -> None:
        self._cluster, self.staff, self._post = cluster, Staff(cluster, workers), post
        self.pools: dict[Resources, Pool] = {}
        self.later: list[tuple[float, int, Entry]] = []  # by the moment from which they wait
        self._delayed, self.tick = 0, 0.0
        self._order = order or Order()
        self._helpers = Helpers(cluster, post, self._died, self._dismiss)
        self._setups = Setups(cluster, post, self._dismiss)

    def shift(self) -> None:
        """Look at what hangs once per TICK_SECONDS; have the workers there should be; give them items."""
        self.take_up_due()
        if self.open_lanes and time.monotonic() >= self.tick:
            self.tick = time.monotonic() + TICK_SECONDS
            self.stop_hung()
            self.staff.stale = True
        if self.staff.stale:
            self.staff.adjust(self.pools.values())
        for pool in self.pools.values():
            self._assign(pool)

    def take_up_due(self) -> None:
        """Let the items wait for a worker whose pause is over."""
        now = time.monotonic()
        while self.later and self.later[0][0] <= now:
            self.wait_for_worker(heapq.heappop(self.later)[2])

    @property
    def open_lanes(self) -> bool:
        """Return whether any lane is open."""
        return any(one.lanes for pool in self.pools.values() for one in pool.stages)

    def announce(self, stages: Sequence[tuple[Stage, int]]) -> None:
        """Take note of lanes that will be opened, so that their workers are started side by side now."""
        for stage, items in stages:
            self.pools.setdefault(stage.resources, Pool(stage.resources)).announce(stage.name, items)
        self.staff.stale = True

    def withdraw(self, stage: Stage) -> None:
        """Take note that a lane which was announced will not be opened."""
        if (pool := self.pools.get(stage.resources)) is not None:
            pool.withdraw(stage.name)
            self.staff.stale = True

    def open(self, lane: Lane) -> None:
        """Begin a lane."""
        self.withdraw(lane.stage)
        try:
            self._cluster.connect()
            self.staff.check([lane.stage])
            resources = lane.stage.resources
            pool = self.pools.setdefault(resources, Pool(resources))
            lane.hosted = pool.host(lane.stage, self._cluster)
            self._order.add(lane.stage)
        except Exception as error:
            lane.tell(error)
            return
        if not pool.left:
            pool.hung = 0
        if not lane.hosted.lanes:
            for worker in pool.workers:
                worker.doubted.add(lane.hosted)
        lane.hosted.lanes.add(lane)
        self.staff.stale = True

    def wait_for_worker(self, entry: Entry) -> None:
        """Let an item wait for a worker."""
        if not entry.lane.closed and entry.lane.hosted is not None:
            entry.lane.hosted.add(entry)

    def excuse(self, lane: Lane) -> None:
        """Take note that one item of a lane will not be submitted."""
        lane.left -= not lane.closed

    def close(self, lane: Lane) -> None:
        """End a lane; stop the workers that still work on its items."""
        lane.closed = True
        if lane.hosted is None:
            return
        lane.hosted.lanes.discard(lane)
        self.staff.stale = True
        if not lane.left:
            return
        lane.left = 0
        lane.hosted.purge()
        for pool in self.pools.values():
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
                self.wait_for_worker(call.entry)
        worker.calls.clear()
        for other in (worker.load, worker.help):
            if other is not None:
                other.over = True
        pool.workers.remove(worker)
        self._cluster.end(worker.actor)
        self.staff.stale = True

    def release(self) -> None:
        """End all workers."""
        for pool in self.pools.values():
            for worker in list(pool.workers):
                self._dismiss(pool, worker)

    def tell_all(self, error: BaseException) -> None:
        """Tell all lanes what stops them."""
        for pool in self.pools.values():
            for one in pool.stages:
                for lane in list(one.lanes):
                    lane.tell(error)

    def _assign(self, pool: Pool) -> None:
        """Give items to the workers that can take one, see `Order`; then set up what is to come."""
        if self.staff.gives_way(pool):
            return
        stages = self._order.of(pool, self.pools.values())
        for hosted in stages:
            while hosted.waiting and (worker := pool.free_for(hosted)) is not None:
                entry = hosted.next(alone=worker.idle)
                if entry is None:
                    break  # only for a worker that works on nothing else
                self._call(worker, entry)
            self._setups.for_waiting(pool, hosted)
        for hosted in reversed(pool.open):
            self._setups.for_coming(pool, hosted)
        self._helpers.assign(pool)

    def _call(self, worker: PoolWorker, entry: Entry) -> None:
        call = Call(worker, entry)
        worker.calls.add(call)
        future = self._cluster.run(worker.actor, entry.lane.stage.name, entry.item, entry.attempt)
        future.add_done_callback(lambda ended: self._post(partial(self._returned, call, ended)))

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
        if outcome.error_type == WITHDRAWN:
            self.wait_for_worker(call.entry)
        else:
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
        in_company = len(calls) > 1 or worker.help is not None
        suspects = calls if hung is None and in_company else []
        blamed = [hung] if hung is not None else [] if in_company else calls
        pool = self.pools[calls[0].hosted.stage.resources]
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
                give_up(hosted, f"{hosted.deaths} workers died, none succeeded; {why}")

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
            heapq.heappush(self.later, (due, self._delayed, again))
            return
        outcome = entry.with_help(outcome)
        if outcome.status == "ok":
            lane.hosted.made(outcome.seconds)
        lane.left -= 1
        lane.tell(outcome)

    def stop_hung(self) -> None:
        """Stop workers whose call or set-up makes no progress."""
        for pool in self.pools.values():
            self._helpers.stop_hung(pool)
            self._setups.stop_hung(pool)
            for worker in list(pool.workers):
                for call in list(worker.calls):
                    limit = call.entry.lane.policy.timeout_seconds
                    if not call.over and call.is_stuck(limit):
                        self._died(worker, "WorkerHung", f"no progress for {limit:.0f} s; {HUNG}", hung=call)
