"""How many workers of each kind of resources the cluster's nodes hold together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from recapture.tasks.engine.ray_gang import bundle_of
from recapture.tasks.engine.stage import Resources

SLACK = 1e-6


class Nodes:
    """The nodes of a cluster, filled with workers one by one."""

    def __init__(self, nodes: Iterable[Mapping[str, Any]]) -> None:
        self._left = [_Node(float(node.get("CPU", 0.0)), _devices(node)) for node in nodes]

    def take(self, resources: Resources) -> bool:
        """Place one worker and return whether there was room; workers without GPUs avoid nodes with some."""
        bundle = bundle_of(resources)
        cpus, gpus = bundle.get("CPU", 0.0), bundle.get("GPU", 0.0)
        left = [replace(node, free=list(node.free)) for node in self._left] if resources.bundles > 1 else []
        for _ in range(resources.bundles):
            fitting = [node for node in self._left if node.holds(cpus, gpus)]
            if not fitting:
                self._left = left or self._left
                return False
            node = fitting[0] if gpus else min(fitting, key=lambda one: bool(one.free))
            node.take(cpus, gpus)
        return True


@dataclass
class _Node:
    """What is left of one node. Part of a GPU is part of one device: 0.8 fits once on each."""

    cpus: float
    free: list[float]  # of each GPU

    def holds(self, cpus: float, gpus: float) -> bool:
        """Return whether there is room for so much."""
        return self.cpus >= cpus - SLACK and (not gpus or self._able(gpus) is not None)

    def take(self, cpus: float, gpus: float) -> None:
        """Take so much; of several GPUs that can give a part, the fullest gives it, as Ray has it."""
        self.cpus -= cpus
        for device in (self._able(gpus) or ()) if gpus else ():
            self.free[device] -= min(1.0, gpus)

    def _able(self, gpus: float) -> list[int] | None:
        part, count = min(1.0, gpus), max(1, round(gpus))
        able = sorted((left, device) for device, left in enumerate(self.free) if left >= part - SLACK)
        return [device for _, device in able[:count]] if len(able) >= count else None


def _devices(node: Mapping[str, Any]) -> list[float]:
    whole, part = divmod(float(node.get("GPU", 0.0)), 1.0)
    return [1.0] * int(whole) + ([part] if part else [])


def shares(
    nodes: Sequence[Mapping[str, Any]], wanted: Mapping[Resources, int], urgency: Mapping[Resources, int]
) -> dict[Resources, int]:
    """Return how many workers of each kind fit together: one each in turn, until all have what they want.

    The heaviest kind comes first. If not even one of each kind fits, those come first whose workers work,
    then those with work that waits; the others get no worker until these are idle.
    """
    heaviest = sorted(wanted, key=lambda kind: kind.weight, reverse=True)
    found = _fill(nodes, wanted, heaviest)
    if all(found.values()):
        return found
    return _fill(nodes, wanted, sorted(heaviest, key=lambda kind: urgency[kind]))


def _fill(
    nodes: Sequence[Mapping[str, Any]], wanted: Mapping[Resources, int], order: Sequence[Resources]
) -> dict[Resources, int]:
    left, found = Nodes(nodes), dict.fromkeys(order, 0)
    growing = list(order)
    while growing:
        for kind in list(growing):
            if found[kind] < wanted[kind] and left.take(kind):
                found[kind] += 1
            else:
                growing.remove(kind)
    return found


def fits(nodes: Sequence[Mapping[str, Any]], workers: Mapping[Resources, int]) -> bool:
    """Return whether so many workers fit on the nodes together."""
    left = Nodes(nodes)
    heaviest = sorted(workers, key=lambda kind: kind.weight, reverse=True)
    return all(left.take(kind) for kind in heaviest for _ in range(workers[kind]))
