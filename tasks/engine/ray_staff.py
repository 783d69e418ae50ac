"""Which workers there should be: started, kept warm, and dismissed for others that have work."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping

from recapture.tasks.engine.ray_cluster import Cluster
from recapture.tasks.engine.ray_gang import room, too_large
from recapture.tasks.engine.ray_pool import MOST_SLOTS, Pool, PoolWorker
from recapture.tasks.engine.ray_shares import fits, shares, weight_of
from recapture.tasks.engine.retry import StageSick
from recapture.tasks.engine.stage import Resources, Stage


class Staff:
    """The numbers of workers of each kind. Idle workers are kept until another kind needs their room."""

    def __init__(self, cluster: Cluster, workers: int | None) -> None:
        self._cluster, self._workers = cluster, workers
        self.stale = False  # whether to look again at what is needed
        self.slots: int | None = 1
        self.gpus = 0  # that workers have had at once, at most
        self._short = False  # whether a kind has fewer workers than its share
        self._pools: Collection[Pool] = ()

    def check(self, stage: Stage) -> None:
        """Raise StageSick if no node can hold a worker of a stage, unless the number of workers is given.

        In that case the cluster may grow.
        """
        if self._workers is None and room(stage.resources) < 1:
            raise StageSick(too_large(stage.resources, stage.name))

    def adjust(self, pools: Collection[Pool]) -> None:
        """Start the workers that are needed and have room, in place of idle ones that are not needed."""
        self.stale, self._pools = False, pools
        nodes = self._cluster.nodes() if pools else []
        needed = [pool for pool in pools if pool.left]
        most = self._workers or max((pool.left for pool in needed), default=0)
        wanted = {pool.resources: max(1, min(most, pool.left) - pool.hung) for pool in needed}
        share = shares(nodes, wanted, {pool.resources: pool.urgency for pool in needed})
        growing = self._workers is not None and len(needed) == 1  # the cluster may, for the workers given
        for pool in pools:
            pool.target = share.get(pool.resources, 0)
            if growing and pool in needed:
                pool.target = wanted[pool.resources]
        self.slots = self._slots(needed)
        for pool in sorted(needed, key=lambda one: weight_of(one.resources)):
            self._fill(pool, nodes, growing=growing)
        self._short = any(len(pool.workers) < pool.target for pool in needed)
        held = sum(len(pool.workers) * pool.resources.bundles * pool.resources.gpus for pool in pools)
        self.gpus = max(self.gpus, math.ceil(held - 1e-6))

    def _slots(self, needed: Collection[Pool]) -> int | None:
        if not all(pool.target for pool in needed):
            return None
        return sum(pool.target * (MOST_SLOTS if pool.resources.gpus > 0 else 1) for pool in needed)

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
