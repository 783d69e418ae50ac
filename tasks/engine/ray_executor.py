"""Data-parallel fan-out over Ray: warm actors that host a stage and work on one item at a time."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

import ray
from ray.util.placement_group import PlacementGroup, remove_placement_group

from recapture.tasks.engine.ray_gang import inside, reserve, room, too_large
from recapture.tasks.engine.ray_run import Run
from recapture.tasks.engine.ray_watch import GROUP, WORK
from recapture.tasks.engine.retry import RetryPolicy, StageSick
from recapture.tasks.engine.stage import Item, Outcome, Resources, Stage
from recapture.tasks.engine.worker import Worker

SLOTS = 2  # items that a worker with a GPU can work on at once


class RayExecutor:
    """A pool of warm workers, kept from stage to stage while their resources stay the same.

    Ray is started for the first item; a Ray that this process has started or joined before is left running.
    """

    def __init__(
        self,
        store_root: str,
        *,
        workers: int | None = None,
        address: str | None = None,
        inputs_root: str = "",  # see `InlineExecutor`
    ) -> None:
        self.store_root, self._workers, self._address = store_root, workers, address
        self._inputs_root = inputs_root
        self._actors: list[Any] = []
        self._groups: dict[Any, PlacementGroup] = {}  # worker -> its bundles, if it has several
        self._resources: Resources | None = None
        self._started = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
        if self._started:
            ray.shutdown()
            self._started = False

    def run(
        self, stage: Stage, items: Sequence[Item], on_outcome: Callable[[Outcome], None], policy: RetryPolicy
    ) -> list[Outcome]:
        if not items:
            return []
        self._connect()
        self._staff(stage, len(items))
        try:
            return Run(self, stage, policy, on_outcome).drive(items)
        except BaseException:
            self.release()  # items still in flight must not reach the next stage
            raise

    def start_worker(self, resources: Resources) -> Any:
        """Start one worker process; Ray places it where its resources are free.

        A worker with several bundles uses none of them itself: they are for the processes its stage starts.
        """
        group = None if resources.bundles == 1 else reserve(resources)
        own = resources if group is None else Resources(cpus=0.0)
        place = {"scheduling_strategy": "DEFAULT" if group is None else inside(group, 0)}
        threads = {GROUP: 1, WORK: SLOTS if own.gpus > 0 else 1}  # it answers while it works
        answering = ray.remote(concurrency_groups=threads)(Worker)
        options = answering.options(
            num_cpus=own.cpus, num_gpus=own.gpus, max_restarts=0, max_task_retries=0, **place
        )
        actor = options.remote(self.store_root, own, self._inputs_root)
        if group is not None:
            self._groups[actor] = group
        return actor

    def replace(self, dead: Any, stage: Stage) -> Any:
        """Replace a dead worker by a new one."""
        self.dismiss(dead)
        self._actors.append(self.start_worker(stage.resources))
        return self._actors[-1]

    def dismiss(self, actor: Any) -> None:
        """End one worker."""
        ray.kill(actor)
        self._actors.remove(actor)
        if (group := self._groups.pop(actor, None)) is not None:
            remove_placement_group(group)

    @property
    def actors(self) -> list[Any]:
        """Return the workers."""
        return list(self._actors)

    def release(self) -> None:
        """End all workers."""
        for actor in self.actors:
            self.dismiss(actor)

    def _connect(self) -> None:
        if ray.is_initialized():
            return
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        address = self._address or os.environ.get("RAY_ADDRESS") or "local"
        ray.init(
            address=address,
            include_dashboard=False if address == "local" else None,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
        self._started = True

    def _staff(self, stage: Stage, items: int) -> None:
        if stage.resources != self._resources:
            self.release()
            self._resources = stage.resources
        wanted = min(self._workers or self._room(stage.resources, stage.name), items)
        while len(self._actors) < wanted:
            self._actors.append(self.start_worker(stage.resources))

    def _room(self, resources: Resources, stage: str) -> int:
        found = room(resources)
        if found < 1:
            raise StageSick(too_large(resources, stage))
        return found
