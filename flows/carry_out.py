"""The plans of a job as Prefect tasks: those of a few tracks side by side, if the executor allows it."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from queue import Empty, SimpleQueue
from typing import Any, Protocol

from recapture.datasets.store.artifact import Artifact
from recapture.flows.run_shard import ENDED, Ending, Stopped, parameters, task_of
from recapture.tasks.engine.batches import TOGETHER, Batch, batches, complete_artifacts
from recapture.tasks.engine.planner import StagePlan, Track, expected
from recapture.tasks.engine.run_stage import RunContext
from recapture.tasks.engine.stage import Item, Outcome

OPEN_TRACKS = 4  # side by side
TICK_SECONDS = 1.0


class Watcher(Protocol):
    """Who follows the plans of a job: progress bars, records, publishing."""

    def expect(self, plan: StagePlan) -> None:
        """A plan is known; its track is open."""

    def begin(self, plan: StagePlan) -> None:
        """A plan is about to be carried out."""

    def end(self, plan: StagePlan) -> None:
        """A plan has all its outcomes."""

    def forget(self, plan: StagePlan) -> None:
        """The track of a plan is closed."""

    def report(self, plan: StagePlan, title: str, outcomes: list[Outcome]) -> None:
        """A batch of a plan is done; batches are reported track by track, in the order of their plans."""

    def tick(self) -> None:
        """Another second has passed, or a batch is done."""


@dataclass(eq=False)
class Step:
    """A plan of a track, or the same plan of several complete tracks: one Prefect task."""

    plans: list[StagePlan]
    complete: Mapping[str, Artifact] | None  # all artifacts by key; None: not all are known to exist
    rank: int
    number: int = 0  # of its first shard
    title: str = ""
    outcomes: list[Outcome] | None = None  # None: not done

    @property
    def items(self) -> tuple[Item, ...]:
        """Return the items of all plans."""
        return tuple(item for plan in self.plans for item in plan.items)


@dataclass(eq=False)
class OpenTrack:
    """A track, or several complete ones, while they are carried out."""

    tracks: list[Track]
    rest: Iterator[StagePlan]
    new: list[Step] = field(default_factory=list)  # looked up, not begun
    steps: deque[Step] = field(default_factory=deque)  # begun, not reported
    plans: list[StagePlan] = field(default_factory=list)
    ranks: int = 0
    running: int = 0  # steps without outcomes
    waits: Step | None = None  # for whose outcomes to ask for the next plan
    exhausted: bool = False  # no plan is left
    closed: bool = False

    @property
    def complete(self) -> bool:
        """Return whether every artifact of every plan exists."""
        return self.exhausted and all(step.complete is not None for step in self.new)

    @property
    def stages(self) -> list[str]:
        """Return the stages of the plans that are looked up."""
        return [step.plans[0].stage.name for step in self.new]


class Carrier:
    """Carries out the tracks of one job."""

    def __init__(self, context: RunContext, watcher: Watcher, size: int) -> None:
        self._context, self._watcher, self._size = context, watcher, size
        self._ending = Ending()
        self._open: deque[OpenTrack] = deque()  # in their order, until they are reported
        self._shards = Counter[str]()  # stage -> how many there have been
        self._done: SimpleQueue[tuple[OpenTrack, Step, Any]] = SimpleQueue()
        self._futures: set[Any] = set()

    def carry_out(self, tracks: Iterable[Track]) -> None:
        """Carry out all tracks; raise the first error that ends the job, when every task has ended."""
        with ExitStack() as at_the_end:
            at_the_end.push(self._stop)
            for one in self._grouped(tracks):
                self._begin(one)
                while sum(not self._is_over(track) for track in self._open) >= OPEN_TRACKS:
                    self._wait()
            while self._open:
                self._wait()

    def _grouped(self, tracks: Iterable[Track]) -> Iterator[OpenTrack]:
        """Look up track after track; yield each with work to do, and complete neighbours as one."""
        finished: list[OpenTrack] = []
        for track in tracks:
            if not track.clip_by_clip:
                self._in_order(track)
                continue
            one = OpenTrack([track], track.plans)
            self._plan_on(one)
            joins = one.complete and len(finished) < TOGETHER
            if finished and not (joins and finished[0].stages == one.stages):
                yield _joined(finished)
                finished = []
            if one.complete:
                finished.append(one)
            else:
                yield one
        if finished:
            yield _joined(finished)

    def _plan_on(self, one: OpenTrack) -> None:
        """Ask for plans and look them up, until one depends on outcomes that are to come."""
        for plan in one.rest:
            step = Step([plan], complete_artifacts(plan.stage, plan.items, self._context.store), one.ranks)
            one.ranks += 1
            one.new.append(step)
            one.plans.append(plan)
            if plan.awaited and step.complete is None:
                one.waits = step
                return
            if plan.awaited:
                plan.outcomes[:] = [expected(plan.stage, item) for item in plan.items]
        one.exhausted = True

    def _begin(self, one: OpenTrack) -> None:
        self._open.append(one)
        self._begin_new(one)

    def _begin_new(self, one: OpenTrack) -> None:
        steps, one.new = one.new, []
        one.steps.extend(steps)
        one.running += len(steps)
        for step in steps:
            stage = step.plans[0].stage.name
            step.number = self._shards[stage]
            self._shards[stage] += len(step.plans)
            for plan in step.plans:
                self._watcher.expect(plan)
                if self._context.executor.concurrent and step.complete is None:
                    self._context.board.expect(plan, step.number)
                    if self._context.intake is not None:
                        self._context.intake.expect(plan)
        todo = [step for step in steps if step.items and step.complete is None]
        self._context.executor.prepare([(step.plans[0].stage, len(step.items)) for step in todo])
        for step in steps:
            self._start(one, step)

    def _start(self, one: OpenTrack, step: Step) -> None:
        plan, items = step.plans[0], step.items
        for each in step.plans:
            self._watcher.begin(each)
        batch = Batch(step.number, len(step.plans), items, step.complete)
        step.title = batch.title
        if not items:
            self._finished(one, step, [])
            return
        context = self._context_of(plan)
        given = parameters(plan.stage, batch, context, step.rank, self._ending)
        if not context.executor.concurrent:
            self._finished(one, step, task_of(plan, batch)(*given, return_state=True).result())
            return
        future = task_of(plan, batch).submit(*given)
        self._futures.add(future)
        future.add_done_callback(lambda done: self._done.put((one, step, done)))

    def _context_of(self, plan: StagePlan) -> RunContext:
        limit = plan.stage.timeout_seconds
        if limit is None:
            return self._context
        return replace(self._context, policy=replace(self._context.policy, timeout_seconds=limit))

    def _wait(self) -> None:
        """Wait for a task to end, or for a second, and go on with what depended on it."""
        with suppress(Empty):
            one, step, future = self._done.get(timeout=TICK_SECONDS)
            self._futures.discard(future)
            self._finished(one, step, self._outcomes(future))
        if self._context.intake is not None:
            self._context.intake.nudge()
        self._watcher.tick()
        self._report()

    def _outcomes(self, future: Any) -> list[Outcome]:
        if self._ending.error is not None:
            raise self._ending.error
        found: list[Outcome] = future.result()
        return found

    def _finished(self, one: OpenTrack, step: Step, outcomes: list[Outcome]) -> None:
        step.outcomes, rest = outcomes, iter(outcomes)
        for plan in step.plans:
            plan.outcomes[:] = [next(rest) for _ in plan.items]
            self._watcher.end(plan)
        one.running -= 1
        if step is one.waits:
            one.waits = None
            self._plan_on(one)
            self._begin_new(one)
        if self._is_over(one) and not one.closed:
            one.closed = True
            for plan in one.plans:
                self._context.board.forget(plan)
                self._watcher.forget(plan)
            for track in one.tracks:
                track.close()
        self._report()

    def _is_over(self, one: OpenTrack) -> bool:
        return one.exhausted and not one.new and one.running == 0

    def _report(self) -> None:
        """Report what is done in the order of tracks and plans."""
        while self._open:
            one = self._open[0]
            while one.steps and one.steps[0].outcomes is not None:
                step = one.steps.popleft()
                if step.items:
                    self._watcher.report(step.plans[0], step.title, step.outcomes or [])
            if one.steps or not self._is_over(one):
                return
            self._open.popleft()

    def _in_order(self, track: Track) -> None:
        """Carry out a track whose plans depend on each other, batch after batch."""
        for plan in track.plans:
            self._watcher.begin(plan)
            first = self._shards[plan.stage.name]
            for batch in batches(plan, self._size, self._context.store, first=first):
                given = parameters(plan.stage, batch, self._context_of(plan), 0, self._ending)
                outcomes = task_of(plan, batch)(*given, return_state=True).result()
                plan.outcomes += outcomes
                self._shards[plan.stage.name] += batch.shards
                self._watcher.report(plan, batch.title, outcomes)
                self._watcher.tick()
            self._watcher.end(plan)
        track.close()

    def _stop(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        """If the job ends early, end all tasks and wait for them."""
        if error is None:
            return
        self._context.executor.stop(Stopped(ENDED))
        for future in self._futures:
            future.wait()


def _joined(finished: list[OpenTrack]) -> OpenTrack:
    """Return complete tracks as one whose steps provide the items of all."""
    if len(finished) == 1:
        return finished[0]
    steps = [
        Step(
            [plan for step in same for plan in step.plans],
            {key: artifact for step in same for key, artifact in (step.complete or {}).items()},
            same[0].rank,
        )
        for same in zip(*(one.new for one in finished), strict=True)
    ]
    tracks = [track for one in finished for track in one.tracks]
    plans = [plan for one in finished for plan in one.plans]
    return OpenTrack(tracks, iter(()), steps, plans=plans, exhausted=True)
