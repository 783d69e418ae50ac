"""Which workers there should be: started, kept warm, and dismissed for others that have work."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from recapture.tasks.engine.ray_cluster import Cluster
from recapture.tasks.engine.ray_gang import too_large
from recapture.tasks.engine.ray_pool import MOST_SLOTS, Pool, PoolWorker
from recapture.tasks.engine.ray_shares import fits, shares
from recapture.tasks.engine.retry import StageSick
from recapture.tasks.engine.stage import Resources, Stage

CLIPS_PER_SLOT, FEWEST_CLIPS = 2, 8


class Staff:
    """The numbers of workers of each kind. Idle workers are kept until another kind needs their room."""

    def __init__(self, cluster: Cluster, workers: int | None) -> None:
        self._cluster, self._workers = cluster, workers
        self.stale = False  # whether to look again at what is needed
        self._slots: int | None = 1  # items that all workers take at once; None: kinds take turns
        self.gpus = 0  # that workers have had at once, at most
        self._short = False  # whether a kind has fewer workers than its share
        self._pools: Collection[Pool] = ()

    def check(self, stages: Iterable[Stage]) -> None:
        """Raise StageSick if no node can hold a worker of a stage, unless the number of workers is given.

        In that case the cluster may grow.
        """
        if self._workers is not None:
            return
        short = too_large({stage.name: stage.resources for stage in stages}, self._cluster.nodes())
        if short:
            raise StageSick(short)

    def adjust(self, pools: Collection[Pool]) -> None:
        """Start the workers that are needed and have room, in place of idle ones that are not needed."""
        self.stale, self._pools = False, pools
        nodes = self._cluster.nodes() if pools else []
        needed = [pool for pool in pools if pool.left]
        wanted = {pool.resources: max(1, self._most(pool) - pool.hung) for pool in needed}
        share = shares(nodes, wanted, {pool.resources: pool.urgency for pool in needed})
        growing = self._workers is not None and len(needed) == 1  # the cluster may, for the workers given
        for pool in pools:
            pool.target = share.get(pool.resources, 0)
            if growing and pool in needed:
                pool.target = wanted[pool.resources]
        self._slots = _slots(needed)
        for pool in sorted(needed, key=lambda one: one.resources.weight, reverse=True):
            self._fill(pool, nodes, growing=growing)
        self._short = any(len(pool.workers) < pool.target for pool in needed)
        held = sum(len(pool.workers) * pool.resources.bundles * pool.resources.gpus for pool in pools)
        self.gpus = max(self.gpus, math.ceil(held - 1e-6))

    @property
    def clips(self) -> int | None:
        """Return how many clips in flight keep the workers busy; None: as many as there are."""
        return None if self._slots is None else max(FEWEST_CLIPS, CLIPS_PER_SLOT * self._slots)

    def _most(self, pool: Pool) -> int:
        return pool.usable if self._workers is None else min(self._workers, pool.usable)

    def gives_way(self, pool: Pool) -> bool:
        """Return whether the workers of a pool take no more items, because others are to have their room.

        Then those that are idle are dismissed.
        """
        if not (self._short and pool.target and len(pool.workers) > pool.target):
            return False
        self.stale = any(worker.idle for worker in pool.workers)
        return True

    def _fill(self, pool: Pool, nodes: list[Mapping[str, float]], *, growing: bool) -> None:
        while len(pool.workers) < pool.target:
            there: Counter[Resources] = Counter()
            for one in self._pools:
                there[one.resources] += len(one.workers)
            there[pool.resources] += 1
            if not fits(nodes, there):
                idle = self._idle(pool)
                if idle is not None:
                    idle[0].workers.remove(idle[1])
                    self._cluster.end(idle[1].actor)
                    continue
                if not growing:
                    return
            pool.workers.append(PoolWorker(self._cluster.start(pool.resources)))

    def _idle(self, short: Pool) -> tuple[Pool, PoolWorker] | None:
        """Return an idle worker of another pool that has more than its share."""
        for pool in self._pools:
            if pool is not short and len(pool.workers) > pool.target:
                for worker in pool.workers:
                    if worker.idle:
                        return pool, worker
        return None


def _slots(needed: Collection[Pool]) -> int | None:
    if not all(pool.target for pool in needed):
        return None
    return sum(pool.target * (MOST_SLOTS if pool.resources.gpus > 0 else 1) for pool in needed)
