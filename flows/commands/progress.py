"""What a job says on the terminal: a progress bar while it runs, tables when it is done."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from recapture.conf.schema import RecaptureConfig
from recapture.tasks.engine.stage import Outcome
from recapture.tasks.jobs.job import Job
from recapture.tasks.jobs.summary import JobSummary, format_value, method_table, table_columns

SHOWN_FAILURES = 20
MOVE_SECONDS = 0.1


@dataclass
class _Count:
    """What a bar shows, or is yet to show."""

    untold: int = 0  # items since it was last moved
    failed: int = 0
    reused: bool = False  # the last item was


class StageProgress:
    """One bar a stage, advanced by each finished item."""

    def __init__(self, job: Job, console: Console | None = None) -> None:
        self._progress = Progress(
            TextColumn("{task.description:<8}"),
            BarColumn(bar_width=36),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=console or Console(stderr=True),
        )
        self._bars = {
            plan.stage.name: self._progress.add_task(
                plan.stage.name, total=len(plan.items), note="", start=False
            )
            for plan in job.stages
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
    def stage(self, stage: str) -> Iterator[None]:
        """Run the stage's clock."""
        self._progress.start_task(self._bars[stage])
        yield
        with self._lock:
            self._move(stage)
        self._progress.stop_task(self._bars[stage])

    def advance(self, outcome: Outcome) -> None:
        """Count one finished item; the bars move every MOVE_SECONDS at the most."""
        count = self._counts[outcome.stage]
        with self._lock:
            count.untold += 1
            count.failed += outcome.status not in ("ok", "reused")
            count.reused = outcome.status == "reused"
            if time.monotonic() - self._moved >= MOVE_SECONDS:
                self._move(outcome.stage)

    def _move(self, stage: str) -> None:
        count = self._counts[stage]
        note = f"[red]{count.failed} failed[/red]" if count.failed else "reused" if count.reused else ""
        self._progress.update(self._bars[stage], advance=count.untold, note=note)
        count.untold, self._moved = 0, time.monotonic()


def print_summary(summary: JobSummary, config: RecaptureConfig) -> None:
    """Print where the videos are, the measurements, what is missing, and how to look further."""
    console = Console()
    if summary.reused_everything:
        console.print("[bold]Reused[/bold]: every artifact was there already.")
    print_measurements(summary.metrics, console)
    for failure in summary.failures[:SHOWN_FAILURES]:
        text = f"[red]missing[/red] {escape(failure.item)} at {failure.stage}: {escape(failure.error)}"
        console.print(text, soft_wrap=True)
    if len(summary.failures) > SHOWN_FAILURES:
        console.print(f"… and {len(summary.failures) - SHOWN_FAILURES} more; see `recapture status`")
    colour = "green" if summary.acceptable else "red"
    console.print(
        f"[{colour}]{summary.delivered} of {summary.wanted} videos[/{colour}] "
        f"in {summary.seconds:.0f} s: {config.outputs}/{config.dataset.name}/CLIP/TRAJECTORY/recapture.mp4",
        soft_wrap=True,
    )
    if not summary.acceptable:
        console.print(
            f"[red]{summary.failure_share:.0%} are missing, more than execution.max_failure_share="
            f"{summary.max_failure_share:.0%}[/red]"
        )
    console.print("dashboards: [bold]make ui[/bold]")


def print_measurements(metrics: Mapping[str, Mapping[str, float]], console: Console) -> None:
    """Print one column a method, averaged over items; metrics: item -> `method/metric` -> value."""
    rows = method_table(metrics)
    columns = table_columns(rows)
    if not columns:
        return
    table = Table(title="measured, mean over clips and trajectories", title_justify="left")
    table.add_column("metric")
    for method in rows:
        table.add_column(method, justify="right")
    for column in columns:
        table.add_row(column, *(format_value(row.get(column)) for row in rows.values()))
    console.print(table)
