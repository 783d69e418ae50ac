"""What a job logs to MLflow: one parent run with the settings, a child run per stage or round."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any, Self

import yaml

from recapture.conf.schema import RecaptureConfig
from recapture.tasks.engine.mlflow_link import Tracker, code_version, start_run
from recapture.tasks.engine.planner import StagePlan
from recapture.tasks.engine.stage import Outcome
from recapture.tasks.engine.summary import Summary

TABLE_ROWS = 2000
PAUSE_SECONDS = 1.0
NOTE_CHARACTERS = 5000


class _Child:
    """A child run. A shard that made artifacts is logged at once, others at most once per second."""

    def __init__(self, tracker: Tracker) -> None:
        self.tracker, self.seen = tracker, list[Outcome]()
        self.open = 0  # plans that have begun and not ended
        self._statuses, self._made = Counter[str](), list[Outcome]()
        self._logged, self._moment = 0, 0.0

    def add(self, outcomes: Sequence[Outcome]) -> None:
        self.seen.extend(outcomes)
        self._statuses.update(outcome.status for outcome in outcomes)
        self._made += [outcome for outcome in outcomes if outcome.status == "ok"]
        idle = all(outcome.status == "reused" for outcome in outcomes)
        if not idle or time.monotonic() - self._moment >= PAUSE_SECONDS:
            self.log()

    def log(self) -> None:
        """Log the counts and costs so far, unless that is done already."""
        if self._logged == len(self.seen):
            return
        self._logged, self._moment = len(self.seen), time.monotonic()
        numbers = {f"items_{status}": float(number) for status, number in self._statuses.items()}
        if self._made:
            numbers |= {
                "seconds_median": statistics.median(outcome.seconds for outcome in self._made),
                "seconds_total": sum(outcome.seconds for outcome in self._made),
                "bytes_total": sum(outcome.bytes for outcome in self._made),
                "vram_peak_mb": max(outcome.vram_peak_mb for outcome in self._made),
            }
        if seconds := sum(outcome.gpu_seconds for outcome in self.seen):
            numbers["gpu_seconds_total"] = seconds
        self.tracker.metrics(numbers, step=self._logged)


@dataclass(frozen=True)
class Shown:
    """How a job presents itself: its kind in the run's name, the first columns and the description."""

    what: str
    columns: Sequence[str] = ()
    about: str = ""


class MlflowRecord:
    """The MLflow runs of one job, from its start to its end. Without a URI nothing is logged."""

    def __init__(
        self,
        config: RecaptureConfig,
        run_id: str,
        destination: tuple[str | None, str | None],  # tracking URI, root of artifacts
        *,
        flow: str,
        parameters: Mapping[str, Any],
        tags: Mapping[str, str] | None = None,
        shown: Shown | None = None,
    ) -> None:
        self.config = config
        self.uri, artifact_root = destination
        self.tags = {
            "dataset": config.dataset.name,
            "recapture_run": run_id,
            **code_version(),
            **(tags or {}),
        }
        shown = shown or Shown(flow)
        self.run = start_run(
            self.uri,
            config.dataset.name,
            f"{config.dataset.name}, {shown.what}, {datetime.now().astimezone():%Y-%m-%d %H:%M}",
            self.tags | {"flow": flow},
            artifact_root=artifact_root,
            columns=shown.columns,
            about=shown.about,
        )
        self._parameters, self._children = parameters, dict[str, _Child]()
        self._running: dict[str, _Child] = {}

    def __enter__(self) -> Self:
        self.run.params(self._parameters)
        self.run.text(yaml.safe_dump(self.config.model_dump(mode="json"), sort_keys=False), "config.yaml")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for label, child in list(self._running.items()):
            self.close_child(label, failed=error is not None and (child.open > 0 or not child.seen))
        self.run.finish(failed=error is not None)

    def begin(self, plan: StagePlan) -> None:
        """Open the run of a plan's stage, unless it is open; it stays open to the end of the job."""
        name = plan.stage.name
        self.open_child(name, {"stage": name, "stage_version": plan.stage.version})
        self._children[name].open += 1

    def end(self, plan: StagePlan) -> None:
        """Note that a plan has all its outcomes: if the job breaks, it does not count as broken by it."""
        self._children[plan.stage.name].open -= 1

    def add(self, plan: StagePlan, outcomes: Sequence[Outcome]) -> None:
        """Log the outcomes of a shard of a plan."""
        self._children[plan.stage.name].add(outcomes)

    def finished(self, summary: Summary) -> None:
        """Log the end of the job."""
        summary.mlflow_run = self.run.run_id
        if summary.gpu_share is not None:
            self.run.metrics({"gpu_busy_share": summary.gpu_share})
        for label, share in summary.gpu_shares.items():
            if label in self._children:
                self._children[label].tracker.metrics({"gpu_busy_share": share})
        written = summary.markdown()
        self.run.text(written, "summary.md")
        self.run.tags({"mlflow.note.content": written[:NOTE_CHARACTERS]})

    def open_child(self, label: str, tags: Mapping[str, str]) -> Tracker:
        """Return the child run of this label; open it if it is new."""
        if label not in self._children:
            child = _Child(self.run.child(label, {**self.tags, **tags}))
            self._children[label] = self._running[label] = child
        return self._children[label].tracker

    def close_child(self, label: str, *, failed: bool = False) -> None:
        """Close a child run, unless it is closed."""
        if (child := self._running.pop(label, None)) is not None:
            child.log()
            child.tracker.finish(failed)

    def log_tables(self) -> None:
        """Log a table of items for every child run."""
        for name, child in self._children.items():
            child.log()
            child.tracker.table([_table_row(outcome) for outcome in child.seen[:TABLE_ROWS]], f"{name}.json")


def _table_row(outcome: Outcome) -> dict[str, str | float | int]:
    return {
        "item": outcome.item,
        "status": outcome.status,
        "seconds": round(outcome.seconds, 3),
        "bytes": outcome.bytes,
        "attempts": outcome.attempts,
        "error": outcome.error,
        **{name: float(value) for name, value in outcome.metrics.items()},
    }
