"""Progress bars on the terminal while a job runs."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from recapture.tasks.engine.planner import StagePlan
from recapture.tasks.engine.stage import Outcome

MOVE_SECONDS = 0.1


@dataclass
class _Count:
    """The state of a bar, shown or yet to be shown."""

    pending: int = 0  # finished items that the bar does not show yet
    failed: int = 0
    reused: bool = False  # whether the last item was reused
    began: dict[int, float] = field(default_factory=dict)  # plan that is carried out -> when it began


class StageProgress:
    """One progress bar per stage, advanced by each finished item."""

    def __init__(self, expected: Mapping[str, int], console: Console | None = None) -> None:
        self._progress = Progress(
            TextColumn("{task.description:<8}"),
            BarColumn(bar_width=36),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=console or Console(stderr=True),
        )
        self._bars = {
            stage: self._progress.add_task(stage, total=items, note="", start=False)
            for stage, items in expected.items()
        }
        self._counts = {stage: _Count() for stage in self._bars}
        self._lock, self._moved, self._done = threading.Lock(), 0.0, 0

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    @property
    def done(self) -> int:
        """Return how many items are finished, of all stages."""
        return self._done

    @contextmanager
    def plan(self, plan: StagePlan) -> Iterator[None]:
        """Run the clock of a plan's stage while the plan is carried out."""
        self.begin(plan)
        yield
        self.end(plan)

    def begin(self, plan: StagePlan) -> None:
        """Start the clock of a plan's stage; several plans of a stage may be open at once."""
        count = self._counts[plan.stage.name]
        with self._lock:
            count.began[id(plan)] = time.monotonic()
        self._progress.start_task(self._bars[plan.stage.name])

    def end(self, plan: StagePlan) -> None:
        """Show what was counted; log a plan that is only a part of its stage."""
        stage = plan.stage.name
        count = self._counts[stage]
        with self._lock:
            seconds = time.monotonic() - count.began.pop(id(plan))
            self._move(stage)
            if not count.began:
                self._progress.stop_task(self._bars[stage])
        if plan.title != stage:
            counted = sorted(Counter(outcome.status for outcome in plan.outcomes).items())
            counts = ", ".join(f"{number} {status}" for status, number in counted) or "no items"
            self._progress.console.print(f"{plan.title}: {counts} in {seconds:.0f} s")

    def advance(self, outcome: Outcome) -> None:
        """Count one finished item; bars are redrawn at most once per MOVE_SECONDS."""
        count = self._counts[outcome.stage]
        with self._lock:
            self._done += 1
            count.pending += 1
            count.failed += outcome.status not in ("ok", "reused")
            count.reused = outcome.status == "reused"
            if time.monotonic() - self._moved >= MOVE_SECONDS:
                self._move(outcome.stage)

    def _move(self, stage: str) -> None:
        count = self._counts[stage]
        note = f"[red]{count.failed} failed[/red]" if count.failed else "reused" if count.reused else ""
        self._progress.update(self._bars[stage], advance=count.pending, note=note)
        count.pending, self._moved = 0, time.monotonic()
