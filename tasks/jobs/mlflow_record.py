"""What a job leaves in MLflow: its settings, what each stage did, what was measured, and pictures."""

from __future__ import annotations

import io
import logging
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import yaml
from PIL import Image

from recapture.datasets.store.artifact import Artifact
from recapture.datasets.store.errors import ArtifactError
from recapture.datasets.store.store import ArtifactStore
from recapture.tasks.engine.mlflow_link import Tracker, code_version, start_run
from recapture.tasks.engine.stage import Outcome, Stage
from recapture.tasks.jobs.job import Job
from recapture.tasks.jobs.summary import JobSummary, markdown, method_table

logger = logging.getLogger(__name__)

TABLE_ROWS = 2000
PAUSE_SECONDS = 1.0
PARAMETERS = ("dataset.name", "dataset.uri", "depth.source", "fill.method", "ingest.short_side", "seed")


class _StageRun:
    """A stage's run: every shard that made something is told at once, others once a second at the most."""

    def __init__(self, tracker: Tracker) -> None:
        self.tracker, self.seen = tracker, list[Outcome]()
        self._statuses, self._made = Counter[str](), list[Outcome]()
        self._told, self._moment = 0, 0.0

    def add(self, outcomes: Sequence[Outcome]) -> None:
        self.seen.extend(outcomes)
        self._statuses.update(outcome.status for outcome in outcomes)
        self._made += [outcome for outcome in outcomes if outcome.status == "ok"]
        idle = all(outcome.status == "reused" for outcome in outcomes)
        if not idle or time.monotonic() - self._moment >= PAUSE_SECONDS:
            self.tell()

    def tell(self) -> None:
        """Log the counts and costs so far, unless they are logged already."""
        if self._told == len(self.seen):
            return
        self._told, self._moment = len(self.seen), time.monotonic()
        numbers = {f"items_{status}": float(number) for status, number in self._statuses.items()}
        if self._made:
            numbers |= {
                "seconds_median": statistics.median(outcome.seconds for outcome in self._made),
                "seconds_total": sum(outcome.seconds for outcome in self._made),
                "bytes_total": sum(outcome.bytes for outcome in self._made),
                "vram_peak_mb": max(outcome.vram_peak_mb for outcome in self._made),
            }
        self.tracker.metrics(numbers, step=self._told)


class JobMemory:
    """The job's MLflow runs, from its start to its end: one parent, one child a stage."""

    def __init__(
        self, job: Job, run_id: str, uri: str | None, artifact_root: str | None, *, name: str = "recapture"
    ) -> None:
        self._job, self._children = job, dict[str, _StageRun]()
        self._tags = {"dataset": job.config.dataset.name, "recapture_run": run_id, **code_version()}
        self._run = start_run(
            uri,
            job.config.dataset.name,
            f"{name}-{run_id}",
            self._tags,
            artifact_root=artifact_root,
        )

    def __enter__(self) -> Self:
        config = self._job.config
        flat = config.flat()
        self._run.params({name: flat[name] for name in PARAMETERS})
        self._run.params({"trajectories": ", ".join(trajectory.label for trajectory in config.trajectories)})
        self._run.text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False), "config.yaml")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._finish_stage(failed=error is not None)
        self._run.finish(failed=error is not None)

    @property
    def mlflow_run(self) -> str | None:
        """Return the id of the parent run, if there is one."""
        return self._run.run_id

    def begin(self, stage: Stage) -> None:
        """Open a stage's run, unless it is open, and close the one before: their times are the stages'."""
        if stage.name not in self._children:
            self._finish_stage(failed=False)
            tags = {**self._tags, "stage": stage.name, "stage_version": stage.version}
            self._children[stage.name] = _StageRun(self._run.child(stage.name, tags))

    def _finish_stage(self, failed: bool) -> None:
        if self._children:
            last = list(self._children.values())[-1]
            last.tell()
            last.tracker.finish(failed)

    def stage(self, stage: Stage, outcomes: Sequence[Outcome]) -> None:
        """Remember what came of one shard of a stage."""
        self.begin(stage)
        self._children[stage.name].add(outcomes)

    def replan(self, job: Job) -> None:
        """Take the job with the keys that its artifacts have in the end."""
        self._job = job

    def job(self, summary: JobSummary, store: ArtifactStore) -> None:
        """Remember the end of the job: measurements, tables, contact sheets and videos."""
        summary.mlflow_run = self.mlflow_run
        if self.mlflow_run is None:
            return
        for name, child in self._children.items():
            child.tell()
            child.tracker.table([_table_row(outcome) for outcome in child.seen[:TABLE_ROWS]], f"{name}.json")
        means = method_table(summary.metrics)
        self._run.metrics(
            {
                "videos_wanted": summary.wanted,
                "videos_delivered": summary.delivered,
                "seconds": summary.seconds,
                **{
                    f"{method}/{metric}": value
                    for method, row in means.items()
                    for metric, value in row.items()
                },
            }
        )
        self._run.table([{"method": method, **row} for method, row in means.items()], "measurements.json")
        written = markdown(summary)
        self._run.text(written, "summary.md")
        self._run.tags({"mlflow.note.content": written[:5000]})
        self._pictures(summary, store)

    def _pictures(self, summary: JobSummary, store: ArtifactStore) -> None:
        last = self._job.stages[-1]
        ready = [item for item in last.items if item.name in summary.ready]
        for item in ready[: self._job.config.tracking.videos]:
            label = item.name.replace("/", "_").replace("@", "_at_")
            try:
                self._item_pictures(store.open(last.stage.name, item.key), label)
            except (ArtifactError, OSError) as error:
                logger.warning("MLflow gets no pictures of %s: %s", item.name, error)

    def _item_pictures(self, artifact: Artifact, label: str) -> None:
        for file in artifact.names():
            if file == "contact_sheet.png":
                sheet = Image.open(io.BytesIO(artifact.read_bytes(file)))
                self._run.image(sheet, f"contact_sheets/{label}")
            if file.endswith((".mp4", ".png")):
                with artifact.local_path(file) as path:
                    self._run.artifact(path, f"videos/{label}")


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
