"""Workers of one kind of resources, and what they host."""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from recapture.tasks.engine.ray_watch import Watch
from recapture.tasks.engine.retry import RetryPolicy
from recapture.tasks.engine.stage import InParts, Item, Outcome, Resources, Stage
from recapture.tasks.engine.worker import helping, loading, working

MOST_SLOTS = 2  # items that a worker with a GPU works on at once


class Lane:
    """One shard of a stage on its way through the workers. `tell` gets its outcomes, or what stops it."""

    def __init__(
        self,
        stage: Stage,
        policy: RetryPolicy,
        *,
        rank: int,
        left: int,
        parts: int = 0,  # that its items can be cut into at most
        tell: Callable[[Outcome | BaseException], None],
    ) -> None:
        self.stage, self.policy, self.rank, self.tell = stage, policy, rank, tell
        self.left = left  # items without an outcome
        self._parts_per_item = max(1.0, parts / max(1, left))
        self.closed = False
        self.hosted: Hosted | None = None

    @property
    def usable(self) -> int:
        """Return how many workers could work on it at once, one on each part of its items."""
        return math.ceil(self.left * self._parts_per_item)


@dataclass(eq=False)
class Entry:
    """One try at an item."""

    item: Item
    attempt: int
    lane: Lane
    alone: bool = False  # it was in flight when a worker died with company
    helps: int = 0  # parts of it that other workers were asked for
    unhelped: bool = False  # no part is left for others, or one of them failed
    helped_seconds: float = 0.0  # that others had their turn on a GPU for it

    def with_help(self, outcome: Outcome) -> Outcome:
        """Return its outcome with the seconds of those who helped."""
        return replace(outcome, gpu_seconds=outcome.gpu_seconds + self.helped_seconds)


class Hosted:
    """A stage as the workers of a pool host it: what waits, and how its workers have fared."""

    def __init__(self, stage: Stage, pickled: bytes, reference: Any) -> None:
        self.stage, self.pickled, self.reference, self.name = stage, pickled, reference, stage.name
        self.slots = min(MOST_SLOTS, stage.slots) if stage.resources.gpus > 0 else 1
        self.in_parts = isinstance(stage, InParts)
        self.lanes: set[Lane] = set()
        self.suspects: deque[Entry] = deque()  # to be tried alone on a worker
        self._heap: list[tuple[float, int, Entry]] = []
        self._added = 0
        self.forget()

    def forget(self) -> None:
        """Forget how its workers have fared."""
        self.deaths = self.setups_died = self.succeeded = 0
        self.seconds = 0.0  # that an item has taken on average
        self.ready = False  # whether any worker has been set up

    @property
    def rank(self) -> int:
        """Return its place in the job; stages with a higher one come first."""
        return max((lane.rank for lane in self.lanes), default=0)

    @property
    def left(self) -> int:
        """Return how many items have no outcome yet, whether they are ready or not."""
        return sum(lane.left for lane in self.lanes)

    @property
    def usable(self) -> int:
        """Return how many workers could work on its items at once."""
        return sum(lane.usable for lane in self.lanes)

    @property
    def waiting(self) -> int:
        """Return how many items are ready and wait for a worker."""
        return len(self._heap) + len(self.suspects)

    def add(self, entry: Entry) -> None:
        """Let an item wait for a worker; the longest come first, then those that came first."""
        if entry.alone:
            self.suspects.append(entry)
            return
        self._added += 1
        weight = float(getattr(entry.item.params, "weight", 0.0))
        heapq.heappush(self._heap, (-weight, self._added, entry))

    def next(self, *, alone: bool) -> Entry | None:
        """Take the next item, if any; alone: for a worker that works on nothing else."""
        if alone and self.suspects:
            return self.suspects.popleft()
        return heapq.heappop(self._heap)[2] if self._heap else None

    def made(self, seconds: float) -> None:
        """Take note of an item that has succeeded."""
        self.succeeded += 1
        self.seconds += (seconds - self.seconds) / self.succeeded

    def purge(self) -> None:
        """Forget the items of lanes that are closed."""
        self.suspects = deque(entry for entry in self.suspects if not entry.lane.closed)
        self._heap = [one for one in self._heap if not one[2].lane.closed]
        heapq.heapify(self._heap)


class Load(Watch):
    """The set-up of a stage on a worker."""

    def __init__(self, worker: PoolWorker, hosted: Hosted) -> None:
        super().__init__(worker.actor, loading(hosted.name))
        self.worker, self.hosted, self.over = worker, hosted, False


class Call(Watch):
    """One item on a worker."""

    def __init__(self, worker: PoolWorker, entry: Entry) -> None:
        super().__init__(worker.actor, working(entry.lane.stage.name, entry.item.name))
        self.worker, self.entry, self.over = worker, entry, False
        self.wanted: bool | None = None  # elsewhere; False: it has had its turn and stays
        assert entry.lane.hosted is not None
        self.hosted = entry.lane.hosted


class Help(Watch):
    """One part of an item on a worker that does not work on the item itself."""

    def __init__(self, worker: PoolWorker, entry: Entry) -> None:
        super().__init__(worker.actor, helping(entry.lane.stage.name, entry.item.name))
        self.worker, self.entry, self.over = worker, entry, False


def lost(call: Call, kind: str, why: str) -> Outcome:
    """Return the outcome of an item whose worker is gone."""
    item, stage = call.entry.item, call.hosted.name
    common = {"error_type": kind, "error": why, "attempts": call.entry.attempt, "seconds": call.seconds}
    return Outcome(item.name, item.clip_id, item.key, stage, "error", **common)  # type: ignore[arg-type]


@dataclass(eq=False)
class PoolWorker:
    """One worker process."""

    actor: Any
    loaded: dict[str, Hosted] = field(default_factory=dict)  # stage name -> the stage
    doubted: set[Hosted] = field(default_factory=set)  # loaded, but the worker may have died since
    load: Load | None = None
    help: Help | None = None
    calls: set[Call] = field(default_factory=set)

    @property
    def idle(self) -> bool:
        """Return whether it neither works on an item or a part of one nor sets up a stage."""
        return not self.calls and self.load is None and self.help is None

    def has(self, hosted: Hosted) -> bool:
        """Return whether a stage is set up here."""
        return self.loaded.get(hosted.name) is hosted and hosted not in self.doubted

    def takes(self, hosted: Hosted) -> bool:
        """Return whether it can begin an item of a stage now."""
        if self.load is not None or not self.has(hosted):
            return False
        if any(call.entry.alone for call in self.calls):
            return False
        busy = len(self.calls) + (self.help is not None)
        return busy < min([hosted.slots, *(call.hosted.slots for call in self.calls)])


class Shelf(Protocol):
    """Where workers get stages from."""

    def pickled(self, stage: Stage) -> bytes: ...

    def put(self, stage: Stage) -> Any: ...


class Pool:
    """The workers of one kind of resources."""

    def __init__(self, resources: Resources) -> None:
        self.resources = resources
        self.workers: list[PoolWorker] = []
        self.stages: list[Hosted] = []
        self.announced: dict[str, deque[int]] = {}  # stage -> the items of each lane that is to be opened
        self.target = 0  # how many workers it should have
        self.hung = 0  # workers that were given up because their set-up hangs

    def host(self, stage: Stage, cluster: Shelf) -> Hosted:
        """Return a stage as its workers know it already, or as a new one."""
        pickled = cluster.pickled(stage)
        for known in self.stages:
            if known.name == stage.name and known.pickled == pickled:
                if not known.lanes:
                    known.forget()
                return known
        self.stages = [one for one in self.stages if one.lanes or one.name != stage.name]
        self.stages.append(Hosted(stage, pickled, cluster.put(stage)))
        return self.stages[-1]

    @property
    def open(self) -> list[Hosted]:
        """Return the stages with lanes, the last of the job first."""
        return sorted((one for one in self.stages if one.lanes), key=lambda one: -one.rank)

    @property
    def left(self) -> int:
        """Return how many items have no outcome yet."""
        return sum(one.left for one in self.stages) + sum(map(sum, self.announced.values()))

    @property
    def usable(self) -> int:
        """Return how many workers could work on its items at once."""
        return sum(one.usable for one in self.stages) + sum(map(sum, self.announced.values()))

    def announce(self, stage: str, items: int) -> None:
        """Take note of a lane that is to be opened."""
        self.announced.setdefault(stage, deque()).append(items)

    def withdraw(self, stage: str) -> None:
        """Take note that a lane which was announced is open, or will not be opened."""
        if self.announced.get(stage):
            self.announced[stage].popleft()

    @property
    def slowest(self) -> float:
        """Return the mean seconds of the items of its slowest stage, going by those that are made."""
        return max((one.seconds for one in self.open), default=0.0)

    def runs_dry(self, within: float) -> bool:
        """Return whether fewer items wait than its workers take at once and get done in so many seconds."""
        workers = max(1, self.target, len(self.workers))
        slots = max((one.slots for one in self.open), default=1)
        done = max((within * one.slots / one.seconds for one in self.open if one.seconds), default=0.0)
        return sum(one.waiting for one in self.stages) < workers * (slots + done)

    def to_come(self, hosted: Hosted) -> int:
        """Return how many items of a stage are not ready yet."""
        calls = sum(call.hosted is hosted for worker in self.workers for call in worker.calls)
        return hosted.left - hosted.waiting - calls

    @property
    def busy(self) -> bool:
        """Return whether an item waits for a worker or is on one."""
        return any(one.waiting for one in self.stages) or any(worker.calls for worker in self.workers)

    @property
    def urgency(self) -> int:
        """Return 0 if its workers have work, 1 if work waits for workers, 2 if work is to come."""
        if self.busy:
            return 0 if self.workers else 1
        return 2

    def free_for(self, hosted: Hosted) -> PoolWorker | None:
        """Return the worker with the fewest calls that can begin an item of a stage."""
        able = [worker for worker in self.workers if worker.takes(hosted)]
        return min(able, key=lambda worker: len(worker.calls), default=None)

    def idle_without(self, hosted: Hosted) -> PoolWorker | None:
        """Return an idle worker that has not set up a stage, preferably one that has set up the fewest."""
        idle = [worker for worker in self.workers if worker.idle and not worker.has(hosted)]
        return min(idle, key=lambda worker: len(worker.loaded), default=None)

    def loading(self, hosted: Hosted) -> int:
        """Return how many workers set a stage up at the moment."""
        return sum(worker.load is not None and worker.load.hosted is hosted for worker in self.workers)
