"""What is known, while a job runs, of the artifacts of its open shards: to come, made, or not to be made.

Stages of one shard run side by side, each in a thread of its own; the board tells them when the parents of
an item are settled. What the board does not know is looked up in the store.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from recapture.tasks.engine.stage import Item, Outcome, parent_stage

if TYPE_CHECKING:
    from recapture.tasks.engine.planner import StagePlan

Place = tuple[str, str]  # stage, key


@dataclass
class _Entry:
    """One artifact that an open shard is to provide."""

    maker: tuple[str, int]  # stage and number of the shard that makes it
    users: int = 0  # open plans that name it
    outcome: Outcome | None = None
    told: list[Callable[[Outcome], None]] = field(default_factory=list)  # called when it is settled


class Board:
    """The artifacts of all open shards. Safe to use from any thread; what it calls must not wait."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[Place, _Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def expect(self, plan: StagePlan, shard: int) -> None:
        """Announce the items of a plan: those that depend on them wait until they are settled.

        The first shard that announces an artifact is the one to make it.
        """
        with self._lock:
            for item in plan.items:
                place = plan.stage.name, item.key
                entry = self._entries.setdefault(place, _Entry((plan.stage.name, shard)))
                entry.users += 1

    def forget(self, plan: StagePlan) -> None:
        """Forget the items of a plan whose shard is closed, unless another open shard names them."""
        with self._lock:
            for item in plan.items:
                place = plan.stage.name, item.key
                if (entry := self._entries.get(place)) is not None:
                    entry.users -= 1
                    if entry.users <= 0:
                        del self._entries[place]

    def is_maker(self, stage: str, key: str, shard: int) -> bool:
        """Return whether a shard is the one to make an artifact."""
        entry = self._entries.get((stage, key))
        return entry is None or entry.maker == (stage, shard)

    def settle(self, outcome: Outcome) -> None:
        """Note what became of an artifact and tell those who wait for it; only the first outcome counts."""
        with self._lock:
            entry = self._entries.get((outcome.stage, outcome.key))
            if entry is None or entry.outcome is not None:
                return
            entry.outcome = outcome
            told, entry.told = entry.told, []
        for tell in told:
            tell(outcome)

    def found(self, stage: str, key: str) -> Outcome | None:
        """Return the outcome of an artifact that is settled."""
        with self._lock:
            entry = self._entries.get((stage, key))
            return None if entry is None else entry.outcome

    def knows(self, stage: str, key: str) -> bool:
        """Return whether an open shard provides an artifact, or has found that it cannot be made."""
        return (stage, key) in self._entries

    def follow(self, stage: str, key: str, tell: Callable[[Outcome], None]) -> None:
        """Call tell(outcome) when an artifact is settled: at once if it is, never if it is unknown."""
        with self._lock:
            entry = self._entries.get((stage, key))
            if entry is None:
                return
            if entry.outcome is None:
                entry.told.append(tell)
                return
        tell(entry.outcome)

    def when_ready(
        self, item: Item, ready: Callable[[Item], None], lost: Callable[[Item, str], None]
    ) -> None:
        """Call ready(item) once all parents exist, or lost(item, stage) as soon as one cannot be made."""
        waits = _Waits(item, ready, lost)
        for place in places(item.inputs):
            if self.knows(*place):
                waits.for_one()
                self.follow(*place, waits.settled)
        waits.begin()


class _Waits:
    """One item that waits for its parents."""

    def __init__(self, item: Item, ready: Callable[[Item], None], lost: Callable[[Item, str], None]) -> None:
        self._item, self._ready, self._lost = item, ready, lost
        self._lock, self._open = threading.Lock(), 1  # 1: not all parents are asked yet

    def for_one(self) -> None:
        with self._lock:
            self._open += 1

    def begin(self) -> None:
        self._count_down(None)

    def settled(self, parent: Outcome) -> None:
        self._count_down(None if parent.usable else parent.stage)

    def _count_down(self, lost: str | None) -> None:
        with self._lock:
            if self._open <= 0:
                return  # it is lost already
            self._open = self._open - 1 if lost is None else 0
            over = self._open == 0
        if lost is not None:
            self._lost(self._item, lost)
        elif over:
            self._ready(self._item)


def places(inputs: Mapping[str, str]) -> Iterable[Place]:
    """Return stage and key of each input."""
    return ((parent_stage(name), key) for name, key in inputs.items())
