"""What came of a job: counts, failures and the table of measurements."""

from __future__ import annotations

import math
from collections import UserDict
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field

from recapture.tasks.engine.stage import PARENT_FAULTS, Outcome
from recapture.tasks.jobs.job import Job

TABLE = (
    "psnr",
    "psnr_visible",
    "psnr_hole",
    "psnr_seam",
    "ssim",
    "consistency_psnr",
    "coverage",
    "rotation_error_deg",
    "translation_error",
    "pose_success",
    "sync_offset_frames",
    "warp_error",
    "flow_px",
    "sharpness_ratio",
    "hole_share",
)


@dataclass(frozen=True)
class Failure:
    """A clip, or a clip along a trajectory, that the job goes without."""

    item: str
    stage: str
    error: str


@dataclass
class JobSummary:
    """Counts a stage, failures and measurements an item; whether few enough failed.

    A UserDict where there is an entry an item: Prefect searches the dicts of what a flow returns for futures.
    """

    dataset: str
    clips: int = 0
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    metrics: MutableMapping[str, dict[str, float]] = field(default_factory=UserDict)
    videos: Mapping[str, str] = field(default_factory=UserDict)  # wanted item -> its clip
    unreadable: int = 0
    dropped: set[str] = field(default_factory=set)
    seconds: float = 0.0
    max_failure_share: float = 0.0
    last_stage: str = ""
    ready: set[str] = field(default_factory=set)
    mlflow_run: str | None = None

    @classmethod
    def of(cls, job: Job) -> JobSummary:
        """Start counting: every clip, also one that could not be scanned, wants one video a trajectory."""
        return cls(
            job.config.dataset.name,
            clips=len(job.clips),
            videos=UserDict({item.name: item.clip_id for item in job.stages[-1].items}),
            unreadable=len(job.rejected) * len(job.config.trajectories),
            failures=[Failure(clip.id, clip.stage, clip.error) for clip in job.rejected],
            max_failure_share=job.config.execution.max_failure_share,
            last_stage=job.stages[-1].stage.name,
        )

    def add(self, stage: str, outcomes: Iterable[Outcome]) -> None:
        """Count what came of a shard of a stage."""
        counts = self.counts.setdefault(stage, {})
        for outcome in outcomes:
            counts[outcome.status] = counts.get(outcome.status, 0) + 1
            if outcome.status == "dropped":
                self.dropped.add(outcome.item)
            elif outcome.status == "quarantined" or outcome.error_type in PARENT_FAULTS:
                self.failures.append(Failure(outcome.item, stage, outcome.error))
            elif outcome.usable and stage == self.last_stage:
                self.ready.add(outcome.item)
            if stage == "measure" and outcome.metrics:
                self.metrics[outcome.item] = dict(outcome.metrics)

    @property
    def wanted(self) -> int:
        """Return how many videos there should be: one a clip and trajectory, less what somebody dropped."""
        kept = [name for name, clip in self.videos.items() if not {name, clip} & self.dropped]
        return len(kept) + self.unreadable

    @property
    def delivered(self) -> int:
        """Return how many of the wanted videos are there."""
        return len(self.ready)

    @property
    def failure_share(self) -> float:
        """Return the share of the wanted videos that are missing."""
        return 1.0 - self.delivered / self.wanted if self.wanted else 0.0

    @property
    def acceptable(self) -> bool:
        """Return whether few enough videos are missing for the job to count as done."""
        return self.failure_share <= self.max_failure_share

    @property
    def reused_everything(self) -> bool:
        """Return whether every stage found all of its artifacts ready."""
        statuses = {status for count in self.counts.values() for status, n in count.items() if n}
        return statuses == {"reused"}


def method_table(metrics: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Average `method/metric` values over items: method -> metric -> mean, leaving out what is undefined."""
    values: dict[str, dict[str, list[float]]] = {}
    for item in metrics.values():
        for name, value in item.items():
            method, slash, metric = name.partition("/")
            if slash and math.isfinite(value):
                values.setdefault(method, {}).setdefault(metric, []).append(value)
    return {
        method: {metric: sum(numbers) / len(numbers) for metric, numbers in by_metric.items()}
        for method, by_metric in values.items()
    }


def table_columns(table: Mapping[str, Mapping[str, float]], columns: Sequence[str] = TABLE) -> list[str]:
    """Return the columns that some method has a value for, in the order of reading."""
    return [column for column in columns if any(column in row for row in table.values())]


def format_value(value: float | None) -> str:
    """Write a number with three significant digits; a dash where it is undefined."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"


def markdown(summary: JobSummary) -> str:
    """Return the summary as the Markdown that Prefect shows."""
    lines = [
        f"# {summary.dataset}: {summary.delivered} of {summary.wanted} videos",
        "",
        f"{summary.clips} clips, {summary.seconds:.0f} s"
        + (f", MLflow run `{summary.mlflow_run}`" if summary.mlflow_run else ""),
        "",
        "| stage | done | reused | failed | blocked |",
        "|---|---|---|---|---|",
    ]
    for stage, counts in summary.counts.items():
        failed = counts.get("error", 0) + counts.get("quarantined", 0)
        cells = (counts.get("ok", 0), counts.get("reused", 0), failed, counts.get("blocked", 0))
        lines.append(f"| {stage} | " + " | ".join(str(cell) for cell in cells) + " |")
    table = method_table(summary.metrics)
    if columns := table_columns(table):
        lines += ["", f"| mean over {len(summary.metrics)} videos | " + " | ".join(table) + " |"]
        lines += ["|---" + "|---:" * len(table) + "|"]
        for column in columns:
            values = [format_value(row.get(column)) for row in table.values()]
            lines.append(f"| {column} | " + " | ".join(values) + " |")
    if summary.failures:
        lines += ["", "## Missing", ""]
        lines += [f"- `{failure.item}` at {failure.stage}: {failure.error}" for failure in summary.failures]
    return "\n".join(lines)
