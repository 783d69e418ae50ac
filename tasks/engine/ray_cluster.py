"""What the loop over workers asks of Ray: a connection, workers, calls."""

from __future__ import annotations

import logging
import os
import platform
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.placement_group import PlacementGroup, remove_placement_group

from recapture.tasks.engine.ray_gang import inside, node_resources, reserve
from recapture.tasks.engine.ray_pool import MOST_SLOTS
from recapture.tasks.engine.ray_watch import GROUP, WORK
from recapture.tasks.engine.stage import Item, Resources, Stage
from recapture.tasks.engine.system_metrics import node_sample
from recapture.tasks.engine.worker import Worker

SAMPLE_SECONDS = 5.0  # that a worker has to say what its node is busy with


class Cluster:
    """The Ray that workers run on. It is started for the first item; one that was there is left running."""

    def __init__(self, store_root: str, address: str | None, inputs_root: str) -> None:
        self._store_root, self._address, self._inputs_root = store_root, address, inputs_root
        self._groups: dict[Any, PlacementGroup] = {}  # worker -> its bundles, if it has several
        self._started = False

    def connect(self) -> None:
        """Join or start Ray, unless that is done.

        Ray takes SIGTERM for itself and would abort this process; in the main thread, that is undone.
        """
        if ray.is_initialized():
            return
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        ours = signal.getsignal(signal.SIGTERM)
        address = self._address or os.environ.get("RAY_ADDRESS") or "local"
        ray.init(
            address=address,
            include_dashboard=False if address == "local" else None,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
        self._started = True
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, ours)

    def disconnect(self) -> None:
        """Stop a Ray that was started or joined here."""
        if self._started:
            ray.shutdown()
            self._started = False

    def nodes(self) -> list[Mapping[str, Any]]:
        """Return the resources of each node."""
        return node_resources()

    def pickled(self, stage: Stage) -> bytes:
        """Return the bytes of a stage; equal ones need no second set-up."""
        return bytes(ray.cloudpickle.dumps(stage))

    def put(self, stage: Stage) -> Any:
        """Return a reference to a stage for `load`."""
        return ray.put(stage)

    def start(self, resources: Resources) -> Any:
        """Start one worker process; Ray places it where its resources are free.

        A worker with several bundles uses none of them itself: they are for the processes its stage starts.
        """
        group = None if resources.bundles == 1 else reserve(resources)
        own = resources if group is None else Resources(cpus=0.0)
        place = {"scheduling_strategy": "DEFAULT" if group is None else inside(group, 0)}
        threads = {GROUP: 1, WORK: MOST_SLOTS if own.gpus > 0 else 1}  # it answers while it works
        options = ray.remote(concurrency_groups=threads)(NodeWorker).options(
            num_cpus=own.cpus, num_gpus=own.gpus, max_restarts=0, max_task_retries=0, **place
        )
        actor = options.remote(self._store_root, own, self._inputs_root)
        if group is not None:
            self._groups[actor] = group
        return actor

    def end(self, actor: Any) -> None:
        """End one worker."""
        ray.kill(actor)
        if (group := self._groups.pop(actor, None)) is not None:
            remove_placement_group(group)

    def load(self, actor: Any, stage: Any, keep: Sequence[str]) -> Future[Any]:
        """Have a worker set up a stage, beside those that it keeps."""
        return _future(actor.load.options(concurrency_group=WORK).remote(stage, keep))

    def greet(self, actor: Any, stage: str) -> Future[Any]:
        """Ask a worker that has been idle whether it lives and still has a stage set up."""
        return _future(actor.still_has.options(concurrency_group=WORK).remote(stage))

    def run(self, actor: Any, stage: str, item: Item, attempt: int) -> Future[Any]:
        """Have a worker work on an item."""
        return _future(actor.run.options(concurrency_group=WORK).remote(stage, item, attempt))

    def help(self, actor: Any, stage: str, item: Item, skip: int) -> Future[Any]:
        """Have a worker make a part of an item that another one works on."""
        return _future(actor.help.options(concurrency_group=WORK).remote(stage, item, skip))

    def withdraw(self, actor: Any, stage: str, item: Item) -> Future[Any]:
        """Have a worker give up an item that has not had its turn; it answers while it works."""
        return _future(actor.withdraw.options(concurrency_group=GROUP).remote(stage, item.name))

    def samples(self, actors: Sequence[Any]) -> Iterator[tuple[str, dict[str, float]]]:
        """Yield (node, sample) for each node of these workers that answers in time; they answer at work."""
        asked = [actor.node_sample.options(concurrency_group=GROUP).remote() for actor in actors]
        ready, _ = ray.wait(asked, num_returns=len(asked), timeout=SAMPLE_SECONDS) if asked else ([], [])
        for answer in ready:
            with suppress(RayError):
                yield ray.get(answer)


class NodeWorker(Worker):
    """A worker that knows its node."""

    def node_sample(self) -> tuple[str, dict[str, float]]:
        """Return the name of the node, and what it is busy with."""
        return platform.node(), node_sample()


def _future(reference: Any) -> Future[Any]:
    found: Future[Any] = reference.future()
    return found
