"""Stages are set up on workers, and given up where that fails again and again."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

from ray.exceptions import RayError, RayTaskError

from recapture.tasks.engine.faults import first_line
from recapture.tasks.engine.ray_cluster import Cluster
from recapture.tasks.engine.ray_pool import Hosted, Load, Pool, PoolWorker
from recapture.tasks.engine.retry import StageSick, sick_message
from recapture.tasks.engine.worker import reason

DEATHS_BEFORE_SICK = 3  # per worker, while nothing has succeeded yet; or in a row during setup


class Setups:
    """Sets stages up on idle workers, on all of them at the same time. dismiss: ends a worker."""

    def __init__(
        self,
        cluster: Cluster,
        post: Callable[[Callable[[], None]], None],
        dismiss: Callable[[Pool, PoolWorker], None],
    ) -> None:
        self._cluster, self._post, self._dismiss = cluster, post, dismiss

    def for_waiting(self, pool: Pool, hosted: Hosted) -> None:
        """Set a stage up on as many idle workers as its items wait for."""
        while hosted.waiting > pool.loading(hosted) and (worker := pool.idle_without(hosted)) is not None:
            self._begin(pool, worker, hosted)

    def for_coming(self, pool: Pool, hosted: Hosted) -> None:
        """Set a stage up on as many idle workers as it has items or parts of some, although none is ready."""
        loaded = sum(worker.has(hosted) for worker in pool.workers) + pool.loading(hosted)
        while loaded < hosted.usable and (worker := pool.idle_without(hosted)) is not None:
            self._begin(pool, worker, hosted)
            loaded += 1

    def stop_hung(self, pool: Pool) -> None:
        """Stop workers whose set-up makes no progress."""
        for worker in list(pool.workers):
            load = worker.load
            if load is None or load.over or not load.hosted.lanes:
                continue
            limit = max(lane.policy.setup_seconds for lane in load.hosted.lanes)
            if load.is_stuck(limit):
                self._hung(pool, load, limit)

    def _begin(self, pool: Pool, worker: PoolWorker, hosted: Hosted) -> None:
        load = worker.load = Load(worker, hosted)
        if worker.loaded.get(hosted.name) is hosted:
            future = self._cluster.greet(worker.actor, hosted.name)
        else:
            stay = [name for name, one in worker.loaded.items() if one.lanes and name != hosted.name]
            worker.loaded = {name: worker.loaded[name] for name in stay}
            future = self._cluster.load(worker.actor, hosted.reference, stay)
        worker.doubted.discard(hosted)
        future.add_done_callback(lambda ended: self._post(partial(self._ended, pool, load, ended)))

    def _ended(self, pool: Pool, load: Load, ended: Future[Any]) -> None:
        if load.over:
            return
        worker, hosted = load.worker, load.hosted
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
                give_up(hosted, f"a worker died while setting up: {first_line(error)}")
            return
        load.over, worker.load = True, None
        if problem:
            give_up(hosted, problem)
            return
        hosted.setups_died, hosted.ready = 0, True
        worker.loaded[hosted.name] = hosted

    def _hung(self, pool: Pool, load: Load, limit: float) -> None:
        self._dismiss(pool, load.worker)
        if not load.hosted.ready or not pool.workers:
            give_up(
                load.hosted,
                f"a worker was not ready after {load.seconds:.0f} s and made no progress for "
                f"{limit:.0f} s: its setup hangs, or no node has room",
            )
        pool.hung += 1


def give_up(hosted: Hosted, why: str) -> None:
    """Tell all lanes of a stage that it cannot work."""
    for lane in list(hosted.lanes):
        lane.tell(StageSick(sick_message(hosted.stage, why)))
