"""Workers that would be idle take over what waits behind others' items, or make parts of these.

So the last items of a job end sooner.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from typing import Any

from ray.exceptions import RayActorError, RayError

from recapture.tasks.engine.faults import DEVICE_LOST, first_line
from recapture.tasks.engine.ray_cluster import Cluster
from recapture.tasks.engine.ray_pool import Call, Help, Hosted, Pool, PoolWorker


class Helpers:
    """Gives parts to idle workers, one at a time: an item that comes meanwhile waits for no more than that.

    An item that is on a worker with another one and has not had its turn is taken back first, whole.
    A helper that fails costs nothing: the item's own worker makes the part itself. died: replaces a dead
    worker and finds out which of its items is to blame; dismiss: ends a worker.
    """

    def __init__(
        self,
        cluster: Cluster,
        post: Callable[[Callable[[], None]], None],
        died: Callable[[PoolWorker, str, str], None],
        dismiss: Callable[[Pool, PoolWorker], None],
    ) -> None:
        self._cluster, self._post, self._died, self._dismiss = cluster, post, died, dismiss

    def assign(self, pool: Pool) -> None:
        """Have the idle workers of a pool help, if none of its items waits."""
        for hosted in pool.open:
            if any(one.waiting for one in pool.open):
                return
            idle = [worker for worker in pool.workers if worker.idle and worker.has(hosted)]
            on_their_way = sum(call.wanted is True for call in _in_flight(pool, hosted))
            for worker in idle[on_their_way:]:
                if (second := _second(pool, hosted)) is not None:
                    self._take_back(second)
                elif hosted.in_parts and (call := self._longest(pool, hosted)) is not None:
                    self._help(pool, worker, call)

    def stop_hung(self, pool: Pool) -> None:
        """Stop the workers of helpers that make no progress; their items are left to their own workers."""
        for worker in list(pool.workers):
            one = worker.help
            if one is not None and one.is_stuck(one.entry.lane.policy.timeout_seconds):
                one.entry.unhelped = True
                self._dismiss(pool, worker)

    def _take_back(self, call: Call) -> None:
        call.wanted = True
        future = self._cluster.withdraw(call.worker.actor, call.hosted.name, call.entry.item)
        future.add_done_callback(lambda ended: self._post(partial(self._answered, call, ended)))

    def _answered(self, call: Call, ended: Future[Any]) -> None:
        """Note whether the item comes back: then its own call says so, and it waits for a worker again."""
        try:
            call.wanted = bool(ended.result())
        except RayError:
            call.wanted = False  # its worker has died: the call itself says so

    def _longest(self, pool: Pool, hosted: Hosted) -> Call | None:
        """Return the item in flight that has had the least help, of those that can have some."""
        calls = [call for call in _in_flight(pool, hosted) if not (call.entry.unhelped or call.entry.alone)]
        return min(calls, key=lambda call: call.entry.helps, default=None)

    def _help(self, pool: Pool, worker: PoolWorker, call: Call) -> None:
        entry = call.entry
        begun = worker.help = Help(worker, entry)
        future = self._cluster.help(worker.actor, call.hosted.name, entry.item, entry.helps)
        entry.helps += 1
        future.add_done_callback(lambda ended: self._post(partial(self._returned, pool, begun, ended)))

    def _returned(self, pool: Pool, begun: Help, ended: Future[Any]) -> None:
        if begun.over:
            return
        worker, entry, outcome = begun.worker, begun.entry, None
        try:
            outcome = ended.result()
        except RayActorError as error:
            self._lost(pool, begun, "WorkerLost", f"its worker died: {first_line(error)}")
            return
        except RayError:
            entry.unhelped = True
        if outcome is not None and outcome.error_type == DEVICE_LOST:
            self._lost(pool, begun, DEVICE_LOST, f"it lost its GPU: {outcome.error}")
            return
        begun.over, worker.help = True, None
        entry.unhelped |= outcome is None or outcome.status != "ok"
        entry.helped_seconds += 0.0 if outcome is None else outcome.gpu_seconds

    def _lost(self, pool: Pool, begun: Help, kind: str, why: str) -> None:
        begun.entry.unhelped = True
        if begun.worker.calls:
            self._died(begun.worker, kind, why)
        else:
            self._dismiss(pool, begun.worker)


def _second(pool: Pool, hosted: Hosted) -> Call | None:
    """Return the item that came last of those that share a worker and may not have had their turn."""
    calls = [call for call in _in_flight(pool, hosted) if len(call.worker.calls) > 1]
    calls = [call for call in calls if call.wanted is None and not call.entry.alone]
    calls = [call for call in calls if not any(other.wanted for other in call.worker.calls)]
    return max(calls, key=lambda call: call.started, default=None)


def _in_flight(pool: Pool, hosted: Hosted) -> Iterator[Call]:
    for worker in pool.workers:
        yield from (call for call in worker.calls if call.hosted is hosted)
