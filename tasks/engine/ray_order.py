"""Which of a pool's stages come first: those that a scarcer pool is about to lack, then later ones."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from recapture.tasks.engine.ray_pool import Hosted, Pool
from recapture.tasks.engine.stage import Stage


class Order:
    """The order of stages, from which stages lead to which.

    Later stages first keeps clips moving, but not GPUs busy: where measuring is slow, its workers would only
    measure, and no clip would be rendered for the fill. So a stage on the way to a heavier kind of worker
    comes before, as long as too few items wait there: fewer than its workers take at once and finish while a
    worker here is kept by an item of its slowest stage.
    """

    def __init__(self) -> None:
        self._parents: dict[str, frozenset[str]] = {}
        self._ancestors: Mapping[str, frozenset[str]] = {}

    def add(self, stage: Stage) -> None:
        """Take note of what a stage reads."""
        self._parents[stage.name] = frozenset(
            stage.reads.get(name, name) for name in (*stage.parents, *getattr(stage, "also", ()))
        )
        self._ancestors = {name: frozenset(self._before(name)) for name in self._parents}

    def of(self, pool: Pool, pools: Collection[Pool]) -> list[Hosted]:
        """Return the open stages of a pool, those that come first in front."""
        wanted: set[str] = set()
        for other in pools:
            if other.resources.weight > pool.resources.weight and other.runs_dry(pool.slowest):
                wanted.update(*(self._ancestors[one.name] for one in other.open if other.to_come(one)))
        return sorted(pool.open, key=lambda one: one.name not in wanted)

    def _before(self, name: str) -> set[str]:
        found: set[str] = set()
        ahead = [name]
        while ahead:
            new = self._parents.get(ahead.pop(), frozenset()) - found
            found |= new
            ahead += new
        return found
