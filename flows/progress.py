"""The progress of a job: bars on a terminal, else one line per stage and minute; the same for Prefect."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from recapture.flows.eta import Eta, duration
from recapture.tasks.engine.planner import StagePlan
from recapture.tasks.engine.stage import Outcome

LINE_SECONDS = 60.0  # between two lines of a stage
TICK_SECONDS = 1.0
MOVE_SECONDS = 0.1
LONGEST = 48  # characters of an item's name beside a bar
AtWork = Callable[[], Sequence[tuple[str, str]]]


@dataclass
class Count:
    """What is known of a stage."""

    expected: int
    settled: int = 0
    failed: int = 0
    reused: int = 0
    moved: int = 0  # as the bar shows it
    started: float | None = None
    said: float = 0.0  # when its last line was printed
    said_settled: int = -1
    began: dict[int, float] = field(default_factory=dict)  # plan that is carried out -> when it began

    @property
    def complete(self) -> bool:
        """Return whether every item that may come has come."""
        return self.settled >= self.expected


class StageProgress:
    """Counts the finished items of each stage and shows them.

    On a terminal there is a bar per stage. Anywhere else, a stage that is worked on has one line per minute,
    and one when it is done: counts, time, the item that has been worked on for longest, and when the
    job may be done. at_work: (stage, item) of what is worked on, the oldest first. past: see `Eta`.
    """

    def __init__(
        self,
        expected: Mapping[str, int],
        console: Console | None = None,
        *,
        at_work: AtWork = tuple,
        past: Callable[[str], float | None] = lambda stage: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console = console or Console(stderr=True)
        self._bars = Bars(self._console, expected) if _animated(self._console) else None
        self._counts = {stage: Count(items) for stage, items in expected.items()}
        self._eta, self._at_work, self._clock = Eta(expected, past), at_work, clock
        self._began: float | None = None  # the first plan
        self._lock, self._moved, self._over = threading.Lock(), 0.0, threading.Event()

    def __enter__(self) -> Self:
        if self._bars is not None:
            self._bars.start()
        threading.Thread(target=self._keep_ticking, daemon=True, name="progress").start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        with self._lock:
            for stage, count in self._counts.items():
                if self._bars is None and count.settled > max(count.said_settled, 0):
                    self._say(stage)
        if self._bars is not None:
            self._bars.stop()

    @property
    def done(self) -> int:
        """Return how many items are finished, of all stages."""
        return sum(count.settled for count in self._counts.values())

    @property
    def now(self) -> str:
        """Return what is worked on, and when the job may be done, as one line."""
        at_work = list(self._at_work())
        stages = list(dict.fromkeys(stage for stage, _ in at_work))
        parts = [
            f"{stage} {self._counts[stage].settled} of {self._counts[stage].expected}" for stage in stages
        ]
        return "; ".join(part for part in (", ".join(parts), _items(at_work), self._left()) if part)

    @contextmanager
    def plan(self, plan: StagePlan) -> Iterator[None]:
        """Run the clock of a plan's stage while the plan is carried out."""
        self.begin(plan)
        yield
        self.end(plan)

    def begin(self, plan: StagePlan) -> None:
        """Start the clock of a plan's stage; several plans of a stage may be open at once."""
        now, count = self._clock(), self._counts[plan.stage.name]
        with self._lock:
            count.began[id(plan)] = now
            if self._began is None:
                self._began = now
            if count.started is None:
                count.started = count.said = now
            if self._bars is not None:
                self._bars.begin(plan.stage.name)

    def end(self, plan: StagePlan) -> None:
        """Show what was counted; log a plan that is only a part of its stage."""
        stage = plan.stage.name
        count = self._counts[stage]
        with self._lock:
            seconds = self._clock() - count.began.pop(id(plan))
            if self._bars is not None:
                self._move(stage)
                if not count.began:
                    self._bars.end(stage)
            elif count.complete and count.said_settled < count.settled:
                self._say(stage)
        if plan.title != stage:
            counted = sorted(Counter(outcome.status for outcome in plan.outcomes).items())
            counts = ", ".join(f"{number} {status}" for status, number in counted) or "no items"
            self._print(f"{plan.title}: {counts} in {seconds:.0f} s")

    def advance(self, outcome: Outcome) -> None:
        """Count one finished item; bars are redrawn at most once per MOVE_SECONDS."""
        count = self._counts[outcome.stage]
        self._eta.add(outcome)
        with self._lock:
            count.settled += 1
            count.failed += outcome.status not in ("ok", "reused")
            count.reused += outcome.status == "reused"
            if self._bars is not None and time.monotonic() - self._moved >= MOVE_SECONDS:
                self._move(outcome.stage)

    def tick(self) -> None:
        """Show what is worked on now: beside the bars, or as a line for each stage whose minute is over."""
        if self._bars is not None:
            at_work = list(self._at_work())
            left = self._left()
            with self._lock:
                for stage, count in self._counts.items():
                    if count.began:
                        self._move(stage, _items([one for one in at_work if one[0] == stage]), left)
            return
        now = self._clock()
        due = [
            stage
            for stage, count in self._counts.items()
            if count.began and now - count.said >= LINE_SECONDS and not count.complete
        ]
        if due:
            at_work, left = list(self._at_work()), self._left()
            with self._lock:
                for stage in due:
                    self._say(stage, _items([one for one in at_work if one[0] == stage]), left)

    def _keep_ticking(self) -> None:
        while not self._over.wait(TICK_SECONDS):
            self.tick()

    def _say(self, stage: str, at_work: str = "", left: str = "") -> None:
        """Print the line of a stage."""
        count, now = self._counts[stage], self._clock()
        count.said, count.said_settled = now, count.settled
        failed = f", {count.failed} failed" if count.failed else ""
        reused = f", {count.reused} reused" if count.reused else ""
        spent = duration(now - (now if count.started is None else count.started))
        line = f"{stage}: {count.settled} of {count.expected}{failed}{reused} in {spent}"
        self._print("; ".join(part for part in (line, at_work, left) if part))

    def _print(self, line: str) -> None:
        if self._bars is not None:
            self._console.print(line, markup=False)
        else:  # not through rich, which would wrap it, and draw it in a notebook
            stream = sys.stderr if self._console.stderr else self._console.file
            print(line, file=stream, flush=True)

    def _left(self) -> str:
        if self._began is None:
            return ""
        left = self._eta.left(self._clock() - self._began, len(self._at_work()))
        if left is None or self.done >= sum(count.expected for count in self._counts.values()):
            return ""
        without = f", not counting {', '.join(left.unknown)}" if left.unknown else ""
        return f"job: about {duration(left.seconds)} left{without}"

    def _move(self, stage: str, at_work: str = "", left: str = "") -> None:
        assert self._bars is not None
        count = self._counts[stage]
        self._bars.move(stage, count, at_work, left)
        self._moved = time.monotonic()


class Bars:
    """One progress bar per stage."""

    def __init__(self, console: Console, expected: Mapping[str, int]) -> None:
        self._progress = Progress(
            TextColumn("{task.description:<8}"),
            BarColumn(bar_width=36),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
        )
        self._bars = {
            stage: self._progress.add_task(stage, total=items, note="", start=False)
            for stage, items in expected.items()
        }

    def start(self) -> None:
        """Begin to draw."""
        self._progress.start()

    def stop(self) -> None:
        """Draw for the last time."""
        self._progress.stop()

    def begin(self, stage: str) -> None:
        """Start the clock of a stage."""
        self._progress.start_task(self._bars[stage])

    def end(self, stage: str) -> None:
        """Stop the clock of a stage."""
        self._progress.stop_task(self._bars[stage])

    def move(self, stage: str, count: Count, at_work: str, left: str) -> None:
        """Show what was counted."""
        failed = f"[red]{count.failed} failed[/red]" if count.failed else ""
        reused = "reused" if count.reused and count.reused == count.settled else ""
        note = "; ".join(part for part in (failed or reused, escape(at_work), left) if part)
        self._progress.update(self._bars[stage], advance=count.settled - count.moved, note=note)
        count.moved = count.settled


def _animated(console: Console) -> bool:
    """Return whether bars can be drawn: on a terminal that moves its cursor, not in a notebook."""
    return console.is_terminal and not console.is_jupyter and not console.is_dumb_terminal


def _items(at_work: Sequence[tuple[str, str]]) -> str:
    """Return the item that has been worked on for longest, and how many others there are."""
    if not at_work:
        return ""
    name = at_work[0][1]
    shown = name if len(name) <= LONGEST else f"…{name[1 - LONGEST :]}"
    return f"at {shown}" + (f" and {len(at_work) - 1} more" if len(at_work) > 1 else "")
