"""How many workers of each kind of resources the cluster's nodes hold together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from recapture.tasks.engine.ray_gang import bundle_of
from recapture.tasks.engine.stage import Resources


class Nodes:
    """The nodes of a cluster, filled with workers one by one."""

    def __init__(self, nodes: Iterable[Mapping[str, Any]]) -> None:
        self._left = [{name: float(node.get(name, 0.0)) for name in ("CPU", "GPU")} for node in nodes]

    def take(self, resources: Resources) -> bool:
        """Place one worker and return whether there was room; workers without GPUs avoid nodes with some."""
        bundle, taken = bundle_of(resources), list[dict[str, float]]()
        for _ in range(resources.bundles):
            fitting = [
                node
                for node in self._left
                if all(node.get(name, 0.0) >= amount - 1e-6 for name, amount in bundle.items())
            ]
            if not fitting:
                for node in taken:
                    for name, amount in bundle.items():
                        node[name] += amount
                return False
            node = fitting[0] if "GPU" in bundle else min(fitting, key=lambda one: one["GPU"] > 0)
            taken.append(node)
            for name, amount in bundle.items():
                node[name] -= amount
        return True


def weight_of(resources: Resources) -> tuple[float, float, int]:
    """Return what sorts kinds from the heaviest to the lightest."""
    return (-resources.gpus, -resources.cpus, -resources.bundles)


def shares(
    nodes: Sequence[Mapping[str, Any]], wanted: Mapping[Resources, int], urgency: Mapping[Resources, int]
) -> dict[Resources, int]:
    """Return how many workers of each kind fit together: one each in turn, until all have what they want.

    The heaviest kind comes first. If not even one of each kind fits, those come first whose workers work,
    then those with work that waits; the others get no worker until these are idle.
    """
    heaviest = sorted(wanted, key=weight_of)
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
    return all(left.take(kind) for kind in sorted(workers, key=weight_of) for _ in range(workers[kind]))
