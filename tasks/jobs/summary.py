"""The result of a recapture job: its videos and the table of measurements."""

from __future__ import annotations

import math
from collections import UserDict
from collections.abc import Collection, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field

from recapture.tasks.engine.stage import Outcome
from recapture.tasks.engine.summary import Summary
from recapture.tasks.jobs.calibration import Calibration
from recapture.tasks.jobs.set_distances import SetDistances

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
    "feature_distance",
    "view_agreement",
    "hole_share",
)


@dataclass
class JobSummary(Summary):
    """Which of the wanted videos exist, and their measurements.

    Mappings with an entry per item are UserDicts: Prefect searches the dicts of a flow's result for futures.
    """

    metrics: MutableMapping[str, dict[str, float]] = field(default_factory=UserDict)
    videos: Mapping[str, str] = field(default_factory=UserDict)  # wanted item -> its clip
    unreadable: int = 0  # videos of clips that could not be read
    camera_still: MutableMapping[str, float] = field(
        default_factory=UserDict
    )  # clip without cameras -> share
    estimated: MutableMapping[str, Mapping[str, float]] = field(
        default_factory=UserDict
    )  # clip -> metrics of its estimated cameras
    last_stage: str = ""
    ready: set[str] = field(default_factory=set)
    calibration: Calibration | None = None  # with fill.speed.max_loss
    measured: MutableMapping[str, str] = field(default_factory=UserDict)  # item -> key of its measurement
    distances: SetDistances | None = None  # over all results, with measure.learned.features
    previewed: MutableMapping[str, dict[str, float]] = field(default_factory=UserDict)  # item -> its holes
    page: str | None = None  # address of the results page

    def calibrated(self, found: Calibration | None, outcomes: Sequence[Outcome]) -> None:
        """Take what a calibration found; warn if it found nothing, so that fills are exact."""
        self.calibration = found
        if found is not None:
            self.warnings += found.warnings
        elif any(outcome.status != "expected" for outcome in outcomes):
            self.warnings.append(
                "fill.speed.max_loss: none of the first videos has holes to measure a loss on, or none could "
                "be filled; all videos are filled without shortcuts"
            )

    def add(self, stage: str, outcomes: Iterable[Outcome]) -> None:
        outcomes = list(outcomes)
        super().add(stage, outcomes)
        for outcome in outcomes:
            if outcome.usable and stage == self.last_stage:
                self.ready.add(outcome.item)
            if stage == "ingest" and "camera_still" in outcome.metrics:
                self.camera_still[outcome.item] = outcome.metrics["camera_still"]
            if stage == "cameras" and "camera_known" in outcome.metrics:
                self.estimated[outcome.item] = outcome.metrics
            if stage == "measure" and outcome.metrics:
                self.metrics[outcome.item] = dict(outcome.metrics)
                self.measured[outcome.item] = outcome.key
            if stage == "preview" and outcome.metrics:
                self.previewed[outcome.item] = {"render/hole_share": outcome.metrics["hole_share"]}
            if stage in ("caption", "fill", "seeds"):
                found = caption_warnings(outcome)  # the same for all trajectories of a clip
                self.warnings += [warning for warning in found if warning not in self.warnings]
            if stage == "deliver":
                self.warnings += sound_warnings(outcome)

    @property
    def wanted(self) -> int:
        """Return how many videos there should be: one per clip and trajectory, except those dropped.

        A delivered video counts even if, for example, its measurement was dropped.
        """
        kept = [
            name
            for name, clip in self.videos.items()
            if name in self.ready or not {name, clip} & self.dropped
        ]
        return len(kept) + self.unreadable

    @property
    def delivered(self) -> int:
        return len(self.ready)

    @property
    def results(self) -> str:
        return "videos"

    def markdown(self) -> str:
        lines = [
            f"# {self.dataset}: {self.delivered} of {self.wanted} videos",
            "",
            f"{self.clips} clips, {self.seconds:.0f} s"
            + (f", MLflow run `{self.mlflow_run}`" if self.mlflow_run else ""),
            "",
            "| stage | done | reused | failed | blocked |",
            "|---|---|---|---|---|",
        ]
        for stage, counts in self.counts.items():
            failed = counts.get("error", 0) + counts.get("quarantined", 0)
            cells = (counts.get("ok", 0), counts.get("reused", 0), failed, counts.get("blocked", 0))
            lines.append(f"| {stage} | " + " | ".join(str(cell) for cell in cells) + " |")
        lines += self.gpu_lines() + self._camera_lines()
        lines += self.calibration.lines() if self.calibration is not None else []
        table = method_table(self.metrics)
        if columns := table_columns(table):
            lines += ["", f"| mean over {len(self.metrics)} videos | " + " | ".join(table) + " |"]
            lines += ["|---" + "|---:" * len(table) + "|"]
            for column in columns:
                values = [format_value(row.get(column)) for row in table.values()]
                lines.append(f"| {column} | " + " | ".join(values) + " |")
        lines += self.distances.lines() if self.distances is not None else []
        return "\n".join([*lines, *self.missing_lines()])

    def _camera_lines(self) -> list[str]:
        """Say how many clips came without cameras, and what that means for their fills."""
        if self.estimated:
            return ["", estimated_line(self.estimated.values())]
        if not self.camera_still:
            return []
        still = sum(share == 1 for share in self.camera_still.values())
        moving = sum(share == 0 for share in self.camera_still.values())
        partly = len(self.camera_still) - still - moving
        return [
            "",
            f"{len(self.camera_still)} clips have no cameras: {still} are measured to stand still, {partly} "
            f"in parts, {moving} to move. Where the camera moves, holes are not filled from other frames; "
            "give cameras to have that.",
        ]


def estimated_line(found: Collection[Mapping[str, float]]) -> str:
    """Return in a sentence what became of the cameras of clips that were estimated."""
    still = sum(one["camera_still"] for one in found)
    known = sum(one["camera_known"] for one in found) - still
    cut = sum(not one["camera_known"] and one["camera_shots"] > 1 for one in found)
    line = (
        f"The cameras of {len(found)} clips were estimated: {still:.0f} stand still, {known:.0f} move and "
        f"are known, {cut} are cut into shots, {len(found) - still - known - cut:.0f} are not known."
    )
    if len(found) > still + known:
        line += (
            " Where they are not known, holes are not filled from other frames; the meta of the stage "
            "cameras says why, and cameras beside the clip are the way out."
        )
    return line


def caption_warnings(outcome: Outcome) -> list[str]:
    """Return what of a caption had no effect, in a sentence; empty if nothing."""
    if tokens := outcome.metrics.get("caption_tokens_left_out"):
        return [
            f"{outcome.clip_id}: the last {tokens:.0f} tokens of the caption are more than the base's text "
            "encoder takes and have no effect; shorten the caption"
        ]
    if outcome.metrics.get("caption_words") == 0:
        return [f"{outcome.clip_id}: the captioner said nothing, so it has no caption"]
    if count := outcome.metrics.get("caption_characters_cut"):
        return [f"{outcome.clip_id}: the last {count:.0f} characters of what the captioner said were cut"]
    return []


def sound_warnings(outcome: Outcome) -> list[str]:
    """Return what a delivered video lacks of its source's sound, in a sentence; empty if nothing."""
    if outcome.metrics.get("sound_lost"):
        return [f"{outcome.item}: none of the source's sound can be decoded; the video has no sound"]
    if packets := outcome.metrics.get("sound_damaged_packets"):
        return [f"{outcome.item}: {packets:.0f} packets of the source's sound are damaged; silence instead"]
    return []


def method_table(metrics: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Average `method/metric` values over items: method -> metric -> mean, leaving out what is undefined."""
    from pandas import DataFrame  # not in workers, which import this file with the job

    means = DataFrame(list(metrics.values())).replace([math.inf, -math.inf], math.nan).mean().dropna()
    table: dict[str, dict[str, float]] = {}
    for name, mean in means.items():
        method, slash, metric = str(name).partition("/")
        if slash:
            table.setdefault(method, {})[metric] = mean
    return table


def table_columns(table: Mapping[str, Mapping[str, float]], columns: Sequence[str] = TABLE) -> list[str]:
    """Return the columns for which at least one method has a value, in their order."""
    return [column for column in columns if any(column in row for row in table.values())]


def format_value(value: float | None) -> str:
    """Return a number with three significant digits; a dash if it is undefined."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"
