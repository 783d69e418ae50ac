"""Progress bars on the terminal while a job runs."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
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
        self._lock, self._moved = threading.Lock(), 0.0

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    @contextmanager
    def plan(self, plan: StagePlan) -> Iterator[None]:
        """Run the clock of a plan's stage; log a plan that is only a part of its stage when it is done."""
        stage, started = plan.stage.name, time.monotonic()
        self._progress.start_task(self._bars[stage])
        yield
        with self._lock:
            self._move(stage)
        self._progress.stop_task(self._bars[stage])
        if plan.title != stage:
            counted = sorted(Counter(outcome.status for outcome in plan.outcomes).items())
            counts = ", ".join(f"{number} {status}" for status, number in counted) or "no items"
            self._progress.console.print(f"{plan.title}: {counts} in {time.monotonic() - started:.0f} s")

    def advance(self, outcome: Outcome) -> None:
        """Count one finished item; bars are redrawn at most once per MOVE_SECONDS."""
        count = self._counts[outcome.stage]
        with self._lock:
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
