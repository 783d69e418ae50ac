"""Capacity of a Ray cluster's nodes, and workers with processes on several of them.

A worker with several bundles is placed in the first and uses none of its resources; its gang has one process
per bundle. Ray ends the gang with the worker that owns it, and with the bundles.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError
from ray.util.placement_group import PlacementGroup, get_current_placement_group, placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from recapture.tasks.engine.ray_watch import GROUP, Relay
from recapture.tasks.engine.stage import Resources, WorkerLost

POLL_SECONDS = 2.0
STEPS = 10_000  # Ray counts resources in units of 1/10000


def bundle_of(resources: Resources) -> dict[str, float]:
    """Return what a worker needs on one node, under Ray's names."""
    asked = {"CPU": resources.cpus / resources.bundles, "GPU": resources.gpus / resources.bundles}
    return {name: math.floor(amount * STEPS + 1e-3) / STEPS for name, amount in asked.items() if amount > 0}


def reserve(resources: Resources) -> PlacementGroup:
    """Reserve all bundles of a worker at once, on as few nodes as possible."""
    return placement_group([bundle_of(resources)] * resources.bundles, strategy="PACK")


def inside(group: PlacementGroup, bundle: int) -> PlacementGroupSchedulingStrategy:
    """Return the strategy that places an actor in one bundle."""
    return PlacementGroupSchedulingStrategy(group, bundle)


def room(resources: Resources, nodes: Sequence[Mapping[str, Any]]) -> int:
    """Return how many such workers fit on nodes when nothing else runs."""
    bundles = sum(int(_times(bundle_of(resources), node)) for node in nodes)
    return bundles // resources.bundles


def _times(asked: Mapping[str, float], node: Mapping[str, Any]) -> float:
    return min(float(node.get(name, 0.0)) / amount for name, amount in asked.items())


def too_large(stages: Mapping[str, Resources], nodes: Sequence[Mapping[str, Any]]) -> str:
    """Return the message that no node has room for one worker of some stages, with the way out.

    stages: stage name -> what one worker needs. Empty if there is room for one worker of each.
    """
    short = {name: resources for name, resources in stages.items() if room(resources, nodes) < 1}
    if not short:
        return ""
    settings = [f"execution.resources.{name}" for name in short]
    settings += [f"{name}.workers" for name, resources in short.items() if resources.bundles > 1]
    asked = "; ".join(_request(name, resources, nodes) for name, resources in short.items())
    return f"{asked}: lower {' and '.join(settings)}, or add nodes"


def _request(stage: str, resources: Resources, nodes: Sequence[Mapping[str, Any]]) -> str:
    asked = bundle_of(resources)
    largest = max(nodes, key=lambda node: _times(asked, node), default={})
    fit = room(Resources(asked.get("CPU", 0.0), asked.get("GPU", 0.0)), nodes)
    times, where = "", "on one node"
    if resources.bundles > 1:
        times, where = f"{resources.bundles} times ", f"each on one node, and there is room for {fit}"
    return (
        f"stage {stage!r} needs {times}{_amounts(asked)} per worker, {where}; "
        f"of {len(nodes)} nodes the largest for it has {_amounts(largest)}"
    )


def _amounts(of: Mapping[str, Any]) -> str:
    return f"{of.get('CPU', 0):g} CPUs and {of.get('GPU', 0):g} GPUs"


def own_bundles() -> PlacementGroup | None:
    """Return the bundles of the calling worker, or None if it has only one."""
    return get_current_placement_group() if ray.is_initialized() else None


def node_address() -> str:
    """Return the address of this process's node."""
    return str(ray.util.get_node_ip_address())


class Gang:
    """Processes of one class, one per bundle; the first call that fails ends all of them.

    kind: the class; it is called with the arguments and the number of the bundle. Its method `silence`
    returns the seconds since its last progress, which is passed on as that of the process that waits.
    """

    def __init__(self, kind: type, group: PlacementGroup, resources: Resources, *arguments: Any) -> None:
        asked = bundle_of(resources)
        self.alive = True
        self._actors = [
            ray.remote(concurrency_groups={GROUP: 1})(kind)
            .options(
                num_cpus=asked.get("CPU", 0),
                num_gpus=asked.get("GPU", 0),
                max_restarts=0,
                max_task_retries=0,
                scheduling_strategy=inside(group, number),
            )
            .remote(*arguments, number)
            for number in range(resources.bundles)
        ]

    def first(self, method: str, *arguments: Any) -> Any:
        """Call a method of the first process and return its result."""
        return self._results([getattr(self._actors[0], method).remote(*arguments)], None)[0]

    def all(self, method: str, *arguments: Any, seconds: float | None = None) -> list[Any]:
        """Call a method of every process and return the results.

        seconds: limit without a result or progress. Raises the error of the first process that fails,
        WorkerLost if one dies, and TimeoutError.
        """
        return self._results([getattr(actor, method).remote(*arguments) for actor in self._actors], seconds)

    def _results(self, references: Sequence[Any], seconds: float | None) -> list[Any]:
        waiting, relay, last = list(references), Relay(self._actors), time.monotonic()
        try:
            while waiting:
                ready, waiting = ray.wait(waiting, timeout=POLL_SECONDS)
                ray.get(ready)
                if ready or relay.progressed():
                    last = time.monotonic()
                elif seconds is not None and time.monotonic() - last > seconds:
                    raise TimeoutError(
                        f"{len(waiting)} of {len(references)} processes made no progress within "
                        f"{seconds:g} s: no node has room, or their setup hangs"
                    )
            return list(ray.get(list(references)))
        except BaseException as error:
            self._end()
            if isinstance(error, RayActorError):
                raise WorkerLost(f"one of {len(self._actors)} processes died: {str(error).strip()}") from None
            if isinstance(error, RayTaskError) and error.cause is not None:
                raise error.cause from error
            raise

    def _end(self) -> None:
        self.alive = False
        for actor in self._actors:
            ray.kill(actor)  # including those that wait for the failed one


def node_resources() -> list[Mapping[str, Any]]:
    """Return the resources of each node."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]
