"""The configuration of a recapture job: one frozen section a stage, checked before anything starts.

A stage reads its own section and nothing else; only that section enters the content key of its artifacts,
so that a changed section redoes exactly what depends on it.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from recapture.conf.fill import FillConfig
from recapture.conf.mask import MaskConfig
from recapture.conf.section import EMBEDDED, SAMPLE, Name, Section
from recapture.conf.trajectory import TrajectoryConfig
from recapture.conf.tune import TuneConfig


class DatasetConfig(Section):
    name: Name = Field("sample", description="Names the manifests, the outputs and the MLflow experiment.")
    uri: str = Field(
        SAMPLE,
        min_length=1,
        description="Path or fsspec URL of a folder, a video or an index; scenes://... for procedural "
        "scenes; sample:// for the clips that ship with the package.",
    )
    kind: Literal[
        "auto",
        "folder",
        "scenes",
        "index",
        "multicamvideo",
        "kubric4d",
        "dycheck",
        "realestate10k",
        "davis",
        "colmap",
        "nerfstudio",
    ] = Field("auto", description="auto tells by the URI, and by the names in a folder; docs/inputs.md.")
    where: str = Field("*", description="Glob over clip ids; others are left out.")
    limit: int | None = Field(None, ge=1, description="At most so many clips, in the order of their ids.")


class IngestConfig(Section):
    """How a clip becomes frames at the working size: scaled evenly and padded to multiples of 16."""

    short_side: int | None = Field(
        128,
        ge=16,
        le=4320,
        description="Short side in pixels after scaling down; null keeps the source's size.",
    )
    start_seconds: float = Field(0.0, ge=0)
    max_seconds: float | None = Field(
        None, gt=0, description="Read at most so much of each clip; null reads it all."
    )
    fov_degrees: float = Field(
        60.0, gt=5, lt=170, description="Field of view of the longer side where a clip brings no intrinsics."
    )


class VideoDepthConfig(Section):
    """How a depth model of whole videos (a diffusers directory of the DepthCrafter kind) is applied."""

    window: int = Field(110, ge=1, le=4096, description="Frames denoised at once; bounds memory.")
    overlap: int = Field(25, ge=0, description="Frames that neighbouring windows share.")
    steps: int = Field(5, ge=1, le=1000)
    max_side: int = Field(
        1024, ge=64, le=8192, description="Longer sides are scaled down to it; smaller frames stay."
    )
    precision: Literal["float32", "float16", "bfloat16"] = "float32"

    @model_validator(mode="after")
    def _windows_advance(self) -> Self:
        if self.overlap >= self.window:
            raise ValueError(
                f"windows of {self.window} frames cannot overlap by {self.overlap}; set overlap below window"
            )
        return self


class DepthConfig(Section):
    source: Literal["auto", "given", "model"] = Field(
        "auto", description="auto: the clip's own depth, else the model's."
    )
    model: str = Field(
        EMBEDDED,
        min_length=1,
        description="Directory of a transformers depth-estimation model, or of a diffusers pipeline of the "
        "DepthCrafter kind; embedded: the package's own.",
    )
    prediction: Literal["auto", "inverse", "metric"] = Field(
        "auto",
        description="What the model predicts: affine-invariant inverse depth, or depth in scene units; "
        "auto reads it from the model's own configuration.",
    )
    batch: int = Field(
        8, ge=1, le=256, description="Frames in one forward pass; of a video model, in its VAE's."
    )
    video: VideoDepthConfig = VideoDepthConfig()
    median_depth: float = Field(
        4.0,
        gt=0,
        description="Scene units that the first frame's median depth is set to where scale is unknown.",
    )
    max_unknown_share: float = Field(
        0.5, ge=0, le=1, description="A frame with more unusable depth than this is an error."
    )


class RenderConfig(Section):
    break_ratio: float = Field(0.05, gt=0, lt=1, description="A quad whose depth jumps by more is torn open.")
    shell: float = Field(
        0.3, ge=0, le=10, description="Thickness of the occluder behind a torn edge, as a share of depth."
    )
    max_stretch: float | None = Field(
        16.0, gt=1, description="Surfaces magnified more (in area) than this are holes; null keeps them all."
    )
    chunk: int = Field(
        16, ge=1, le=1024, description="Frames rendered at once; bounds memory, changes nothing else."
    )


class LearnedMetricsConfig(Section):
    """Model directories of metrics that need weights; a metric is computed where its directory is named."""

    lpips: str | None = None
    clip: str | None = None
    dino: str | None = None


class MeasureConfig(Section):
    baselines: bool = Field(True, description="Also measure the copied source and the classical fill.")
    chunk: int = Field(48, ge=2, description="Frames measured at once; averages are weighted by frames.")
    seam_pixels: int = Field(16, ge=1)
    learned: LearnedMetricsConfig = LearnedMetricsConfig()


class DeliverConfig(Section):
    crf: int = Field(16, ge=0, le=51, description="x264 quality of the videos: smaller is better.")
    side_by_side: bool = True
    contact_sheet_frames: int = Field(4, ge=1, le=16)


class StageResources(Section):
    cpus: float = Field(1.0, gt=0)
    gpus: float = Field(0.0, ge=0)


class ExecutionConfig(Section):
    """How the work is spread; never part of an artifact's key."""

    executor: Literal["ray", "inline"] = "ray"
    workers: int | None = Field(None, ge=1, description="Workers a stage; null fills the cluster.")
    ray_address: str | None = Field(
        None, description="null starts Ray here; 'auto' joins the cluster around."
    )
    resources: dict[str, StageResources] = Field(default_factory=dict, description="By stage name.")
    shard: int = Field(256, ge=1, description="Clips in one Prefect task.")
    attempts: int = Field(3, ge=1, le=20, description="Tries at a clip before it is quarantined.")
    timeout_seconds: float = Field(
        600.0, gt=0, description="A clip that takes longer is stopped and tried again."
    )
    max_failure_share: float = Field(
        0.2, ge=0, le=1, description="The job's exit code is non-zero above this share of failed items."
    )


class TrackingConfig(Section):
    enabled: bool = True
    uri: str | None = Field(None, description="MLflow tracking URI; null is sqlite in state/.")
    videos: int = Field(8, ge=0, description="At most so many videos and contact sheets a job.")


class RecaptureConfig(Section):
    """Everything a recapture job needs to know."""

    dataset: DatasetConfig = DatasetConfig()
    store: str = Field("artifacts", min_length=1, description="fsspec URL of the artifacts.")
    outputs: str = Field(
        "outputs", min_length=1, description="fsspec URL of the finished videos, by clip name."
    )
    state: str = Field("state", min_length=1, description="Local folder of Prefect's and MLflow's databases.")
    ingest: IngestConfig = IngestConfig()
    depth: DepthConfig = DepthConfig()
    trajectories: tuple[TrajectoryConfig, ...] = Field(
        (
            TrajectoryConfig(preset="orbit_right", angle_degrees=20),
            TrajectoryConfig(preset="dolly_in", distance=0.3),
        ),
        min_length=1,
    )
    mask: MaskConfig = MaskConfig()
    render: RenderConfig = RenderConfig()
    fill: FillConfig = FillConfig()
    measure: MeasureConfig = MeasureConfig()
    deliver: DeliverConfig = DeliverConfig()
    tune: TuneConfig = TuneConfig()
    execution: ExecutionConfig = ExecutionConfig()
    tracking: TrackingConfig = TrackingConfig()
    seed: int = Field(0, ge=0, le=2**31 - 1)

    @model_validator(mode="after")
    def _labels_are_distinct(self) -> Self:
        labels = [trajectory.label for trajectory in self.trajectories]
        twice = sorted({label for label in labels if labels.count(label) > 1})
        if twice:
            raise ValueError(f"two trajectories are called {twice[0]!r}; give each a name of its own")
        return self

    @model_validator(mode="after")
    def _budgets_are_for_compiled_blocks(self) -> Self:
        if self.tune.training.activation_budget < 1 and not self.fill.compile_blocks:
            raise ValueError(
                "tune.training.activation_budget is kept by compiled blocks alone; "
                "set fill.compile_blocks, or use tune.training.gradient_checkpointing"
            )
        return self
