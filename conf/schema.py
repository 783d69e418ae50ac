"""The configuration of a recapture job: one frozen section per stage, validated before anything starts.

A stage reads only its own section, and only that section enters the content key of its artifacts, so that a
changed section redoes exactly what depends on it.
"""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from recapture.conf.cameras import CamerasConfig
from recapture.conf.caption import CaptionConfig
from recapture.conf.deliver import DeliverConfig
from recapture.conf.execution import ExecutionConfig, TrackingConfig
from recapture.conf.fill import FillConfig
from recapture.conf.mask import MaskConfig
from recapture.conf.measure import MeasureConfig
from recapture.conf.section import EMBEDDED, SAMPLE, Name, Section
from recapture.conf.trajectory import TrajectoryConfig
from recapture.conf.transfer import TransferConfig
from recapture.conf.tune import TuneConfig


class DatasetConfig(Section):
    """The clips of a job."""

    name: Name = Field("sample", description="Name of the manifests, the outputs and the MLflow experiment.")
    uri: str = Field(
        SAMPLE,
        min_length=1,
        description="Path or fsspec URL of a folder, a video or an index; scenes://... and "
        "motionscenes://... for procedural scenes; sample:// for the clips that ship with the package.",
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
        "motionbench",
    ] = Field(
        "auto",
        description="Layout; auto decides by the URI and by the names in a folder. See docs/inputs.md.",
    )
    where: str = Field("*", description="Glob that clip ids must match.")
    limit: int | None = Field(
        None, ge=1, description="Maximum number of clips, in the order of their ids; null: all."
    )
    share: str | None = Field(
        None,
        pattern=r"^[1-9]\d{0,5}/[1-9]\d{0,5}$",
        description="The share of the clips that this job works on, such as 3/16; null: all. Jobs for the "
        "other shares may run at the same time. Clips are assigned by the hash of their ids.",
    )

    @field_validator("share")
    @classmethod
    def _share_exists(cls, share: str | None) -> str | None:
        if share is not None:
            number, of = map(int, share.split("/"))
            if number > of:
                raise ValueError(f"{share} is none of {of} shares; write 1/{of} to {of}/{of}")
        return share


class IngestConfig(Section):
    """Reading clips: frames are scaled to the working size and padded to multiples of 16."""

    short_side: int | None = Field(
        128,
        ge=16,
        le=4320,
        description="Short side in pixels after scaling down; null: keep the source's size.",
    )
    start_seconds: float = Field(0.0, ge=0, description="Start of each clip, in seconds.")
    max_seconds: float | None = Field(
        None, gt=0, description="Maximum length of each clip, in seconds; null: read all of it."
    )
    fov_degrees: float = Field(
        60.0, gt=5, lt=170, description="Field of view of the longer side, for clips without intrinsics."
    )


class VideoDepthConfig(Section):
    """Depth models of whole videos: diffusers pipelines of the DepthCrafter kind."""

    window: int = Field(110, ge=1, le=4096, description="Frames denoised at once; limits memory.")
    overlap: int = Field(
        25, ge=0, description="Frames that neighbouring windows share; must be less than window."
    )
    steps: int = Field(5, ge=1, le=1000, description="Sampling steps per window.")
    max_side: int = Field(
        1024, ge=64, le=8192, description="Frames with a longer side than this are scaled down to it."
    )
    precision: Literal["float32", "float16", "bfloat16"] = Field(
        "float32", description="Precision of the model."
    )

    @model_validator(mode="after")
    def _windows_advance(self) -> Self:
        if self.overlap >= self.window:
            raise ValueError(
                f"windows of {self.window} frames cannot overlap by {self.overlap}; set overlap below window"
            )
        return self


class DepthConfig(Section):
    """Where depth comes from."""

    source: Literal["auto", "given", "model"] = Field(
        "auto",
        description="given: depth files beside the clips; model: the depth model; auto: the former where "
        "there are any.",
    )
    model: str = Field(
        EMBEDDED,
        min_length=1,
        description="Directory of a transformers depth-estimation model, or of a diffusers pipeline of the "
        "DepthCrafter kind; embedded: the depth model that ships with the package.",
    )
    prediction: Literal["auto", "inverse", "metric"] = Field(
        "auto",
        description="What the model predicts: affine-invariant inverse depth or depth in scene units; auto "
        "reads it from the model's configuration.",
    )
    batch: int = Field(8, ge=1, le=256, description="Frames per forward pass; for a video model, of its VAE.")
    video: VideoDepthConfig = VideoDepthConfig()
    median_depth: float = Field(
        4.0,
        gt=0,
        description="Median depth of the first frame in scene units, where the scale is unknown: of inverse "
        "depth, unless match_cameras finds it. Depth of a metric model is left in metres.",
    )
    match_cameras: bool = Field(
        True,
        description="Bring a model's depth to the scale of the clip's own cameras, where these travel; "
        "false: keep metres or median_depth.",
    )
    edge_share: float = Field(
        0.01,
        ge=0,
        le=0.05,
        description="How far from a depth edge a model's soft ramp is made sharp, as a share of the frame's "
        "longer side; 0 keeps it.",
    )
    max_unknown_share: float = Field(
        0.5, ge=0, le=1, description="A frame with a larger share of unusable depth is an error."
    )

    def keyed_for(self, source: str, *, whole_videos: bool) -> dict[str, Any]:
        """Return the settings that can change depth from `source`, given or model.

        whole_videos: the model is applied to whole videos, whose batches it decodes together; for any other
        model, batch changes results only by rounding. The model enters by its hash, elsewhere.
        """
        if source != "model":
            return self.model_dump(mode="json", include={"max_unknown_share"})
        unused = {"source", "model"} if whole_videos else {"source", "model", "batch", "video"}
        return self.model_dump(mode="json", exclude=unused)


class RenderConfig(Section):
    """Rendering the point cloud along a trajectory."""

    break_ratio: float = Field(
        0.05, gt=0, lt=1, description="Surfaces are torn where depth jumps by more than this share."
    )
    shell: float = Field(
        0.3, ge=0, le=10, description="Thickness of the occluder behind a torn edge, as a share of its depth."
    )
    max_stretch: float | None = Field(
        16.0,
        gt=1,
        description="Surfaces magnified more than this (in area) become holes; null: keep them all.",
    )
    chunk: int = Field(
        16, ge=1, le=1024, description="Frames rendered at once; limits memory and changes nothing else."
    )

    def keyed(self) -> dict[str, Any]:
        """Return the settings that can change a rendering."""
        return self.model_dump(mode="json", exclude={"chunk"})


class RecaptureConfig(Section):
    """All settings of a job."""

    dataset: DatasetConfig = DatasetConfig()
    store: str = Field("artifacts", min_length=1, description="Path or fsspec URL of the artifacts.")
    outputs: str = Field(
        "outputs", min_length=1, description="Path or fsspec URL of the finished videos, by clip name."
    )
    state: str = Field("state", min_length=1, description="Local folder of Prefect's and MLflow's databases.")
    ingest: IngestConfig = IngestConfig()
    depth: DepthConfig = DepthConfig()
    cameras: CamerasConfig = CamerasConfig()
    trajectories: tuple[TrajectoryConfig, ...] = Field(
        (
            TrajectoryConfig(preset="orbit_right", angle_degrees=20),
            TrajectoryConfig(preset="dolly_in", distance=0.3),
        ),
        min_length=1,
        description="The new camera paths.",
    )
    caption: CaptionConfig = CaptionConfig()
    mask: MaskConfig = MaskConfig()
    render: RenderConfig = RenderConfig()
    fill: FillConfig = FillConfig()
    measure: MeasureConfig = MeasureConfig()
    deliver: DeliverConfig = DeliverConfig()
    tune: TuneConfig = TuneConfig()
    transfer: TransferConfig = TransferConfig()
    execution: ExecutionConfig = ExecutionConfig()
    tracking: TrackingConfig = TrackingConfig()
    seed: int = Field(0, ge=0, le=2**31 - 1, description="Seed of all randomness.")

    @model_validator(mode="after")
    def _labels_are_distinct(self) -> Self:
        seen: dict[str, str] = {}  # names that differ by case alone would be one folder on some disks
        for label in (trajectory.label for trajectory in self.trajectories):
            first = seen.get(label.casefold())
            if first is not None:
                called = repr(label) if first == label else f"{first!r} and {label!r}, the same but for case"
                raise ValueError(f"two trajectories are called {called}; give each its own name")
            seen[label.casefold()] = label
        return self

    seeds: int = Field(
        1,
        ge=1,
        le=16,
        description="Fills of each item, from this many seeds in turn: the best is delivered, the others and "
        "a map of where they differ are kept.",
    )
    seeds_chosen_by: Literal["consensus", "agreement", "seam", "calm", "ranks", "first"] = Field(
        "ranks",
        description="What the best of several seeds is: in holes nearest to the mean of all; most like the "
        "render beside holes; smallest step at their edges; calmest; best by mean rank; the first seed.",
    )

    @model_validator(mode="after")
    def _seeds_have_a_base(self) -> Self:
        if self.seeds > 1 and self.fill.method == "classical":
            raise ValueError(
                f"seeds {self.seeds} needs a base, and fill.method classical has none; set seeds 1"
            )
        if self.seeds > 1 and self.fill.packing.frames:
            raise ValueError(
                f"seeds {self.seeds} and fill.packing.frames {self.fill.packing.frames} do not go together: "
                "fills are packed before the best is known; set one of them to its default"
            )
        if self.seeds == 1 and self.seeds_chosen_by != "ranks":
            raise ValueError("seeds_chosen_by is for several seeds; set seeds, or leave it out")
        return self

    @model_validator(mode="after")
    def _subjects_are_said(self) -> Self:
        for one in self.trajectories:
            if one.subject is not None and one.subject.way is None and not self.mask.given:
                raise ValueError(
                    f"trajectory {one.label!r} is about a subject, and nothing says which; set its "
                    "subject.uri, objects, box or point, or give the job a mask"
                )
        return self

    @model_validator(mode="after")
    def _clusters_need_ray(self) -> Self:
        tune = self.tune
        if tune.placement == "cluster" and tune.workers > 1 and self.execution.executor == "inline":
            raise ValueError(
                "tune.placement cluster needs Ray; set execution.executor ray, or tune.placement node"
            )
        return self

    @model_validator(mode="after")
    def _budgets_are_for_compiled_blocks(self) -> Self:
        if self.tune.training.activation_budget < 1 and not self.fill.speed.compile_blocks:
            raise ValueError(
                "tune.training.activation_budget needs compiled blocks; "
                "set fill.speed.compile_blocks, or use tune.training.gradient_checkpointing"
            )
        return self
