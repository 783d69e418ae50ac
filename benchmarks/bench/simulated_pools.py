"""A job on simulated workers: the own board, intake, feeds, pools and order; no Ray, and no time passes.

Only workers and time are simulated. An item reads, takes its turn on its worker's device, and writes; the
items of a worker with two slots share the device. Workers of different kinds do not slow each other down.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from bench.fleet import Clock
from recapture.tasks.engine.board import Board
from recapture.tasks.engine.feed import Feed
from recapture.tasks.engine.intake import Intake
from recapture.tasks.engine.planner import StagePlan
from recapture.tasks.engine.ray_order import Order
from recapture.tasks.engine.ray_pool import Entry, Lane
from recapture.tasks.engine.ray_work import Work
from recapture.tasks.engine.retry import RetryPolicy
from recapture.tasks.engine.stage import Item, Outcome, Resources


@dataclass
class TimedStage:
    """A stage whose items take known times, in seconds."""

    name: str
    turn: float
    resources: Resources = Resources()
    parents: tuple[str, ...] = ()
    reading: float = 0.0  # before the turn
    writing: float = 0.0  # after it
    slots: int = 1
    version: str = "1"
    reads: Mapping[str, str] = field(default_factory=dict)
    timeout_seconds: float | None = None


@dataclass(frozen=True)
class Turn:
    """One item's turn on the device of its worker."""

    stage: str
    clip: int
    worker: int
    began: float
    ended: float


@dataclass
class Simulated:
    """What a simulated job came to."""

    turns: list[Turn]
    seconds: float
    most_begun: int  # clips that were begun and not finished
    set_up: list[tuple[int, str, float]]  # worker, stage, and when its set-up began

    def of(self, stage: str) -> list[Turn]:
        """Return the turns of a stage in their order."""
        return sorted((one for one in self.turns if one.stage == stage), key=lambda one: one.began)

    def pauses(self, stage: str, warm: int = 1) -> float:
        """Return the seconds between the turns of a stage, worker by worker, after each has had `warm`."""
        idle = 0.0
        for worker in {one.worker for one in self.of(stage)}:
            own = [one for one in self.of(stage) if one.worker == worker][warm - 1 :]
            idle += sum(later.began - earlier.ended for earlier, later in itertools.pairwise(own))
        return idle


class _Cluster:
    """Workers as `Work` sees them."""

    def __init__(self, nodes: Sequence[Mapping[str, float]], clock: Clock, setup: float) -> None:
        self._nodes, self._clock, self._setup = list(nodes), clock, setup
        self.turns: list[Turn] = []
        self.set_up: list[tuple[int, str, float]] = []
        self.stages: dict[str, TimedStage] = {}

    def connect(self) -> None:
        """Do nothing."""

    def nodes(self) -> list[Mapping[str, float]]:
        return self._nodes

    def pickled(self, stage: TimedStage) -> bytes:
        return stage.name.encode()

    def put(self, stage: TimedStage) -> TimedStage:
        self.stages[stage.name] = stage
        return stage

    def start(self, resources: Resources) -> Any:
        self._started = getattr(self, "_started", -1) + 1
        return SimpleNamespace(number=self._started, free=0.0)

    def end(self, actor: Any) -> None:
        """Do nothing."""

    def load(self, actor: Any, stage: Any, keep: Sequence[str]) -> Future[Any]:
        self.set_up.append((actor.number, stage.name, self._clock.now))
        return self._after(self._setup, "")

    def greet(self, actor: Any, stage: str) -> Future[Any]:
        return self._after(0.0, "")

    def run(self, actor: Any, stage: str, item: Item, attempt: int) -> Future[Any]:
        one, now = self.stages[stage], self._clock.now
        began = max(now + one.reading, actor.free)
        actor.free = began + one.turn
        self.turns.append(Turn(stage, int(item.name.rpartition("/")[2]), actor.number, began, actor.free))
        taken = actor.free + one.writing - now
        outcome = Outcome(item.name, item.clip_id, item.key, stage, "ok", attempts=attempt, seconds=taken)
        return self._after(taken, outcome)

    def withdraw(self, actor: Any, stage: str, item: Item) -> Future[Any]:
        return self._after(0.0, False)  # its turn is fixed when it is given to the worker

    def _after(self, delay: float, result: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self._clock.after(delay, lambda: future.set_result(result))
        return future


def simulate_job(
    stages: Sequence[TimedStage],
    nodes: Sequence[Mapping[str, float]],
    clips: int,
    *,
    order: Order | None = None,
    setup: float = 0.0,
) -> Simulated:
    """Carry out a job over `clips` equal clips on nodes; stages are in the order of the job.

    order: in place of the one that decides which items come first; setup: seconds to set a stage up.
    """
    clock, messages = Clock(), list[Callable[[], None]]()
    cluster = _Cluster(nodes, clock, setup)
    work = Work(cluster, None, messages.append, order)  # type: ignore[arg-type]
    board, intake = Board(), Intake(lambda: work.staff.clips, to_the_end=False)
    items = {stage.name: [_item(stage, number) for number in range(clips)] for stage in stages}
    for stage in stages:
        plan = StagePlan(stage, tuple(items[stage.name]), stage.name)  # type: ignore[arg-type]
        board.expect(plan, 0)
        intake.expect(plan)

    def told(outcome: Outcome | BaseException) -> None:
        if isinstance(outcome, BaseException):
            raise outcome
        board.settle(outcome)
        intake.settled(outcome)

    def act() -> None:
        while messages:
            messages.pop(0)()
        work.shift()

    work.announce([(stage, clips) for stage in stages])  # type: ignore[misc]
    act()
    for rank, stage in enumerate(stages):
        lane = Lane(stage, RetryPolicy(), rank=rank, left=clips, tell=told)  # type: ignore[arg-type]
        work.open(lane)
        feed = Feed(stage, items[stage.name], board=board, intake=intake, rank=rank)  # type: ignore[arg-type]
        feed.attach(lambda item, lane=lane: work.wait_for_worker(Entry(item, 1, lane)), told)  # type: ignore[misc]
        act()

    while any(pool.left for pool in work.pools.values()):
        clock.run(lambda: bool(messages))
        assert messages  # else the job hangs
        act()
    return Simulated(cluster.turns, clock.now, intake.most_begun, cluster.set_up)


def _item(stage: TimedStage, number: int) -> Item:
    inputs = {parent: f"{parent}/{number}" for parent in stage.parents}
    return Item(f"clip/{number}", f"clip/{number}", f"{stage.name}/{number}", inputs)
