"""The configuration of a recapture job: one frozen section a stage, checked before anything starts.

A stage reads its own section and nothing else; only that section enters the content key of its artifacts,
so that a changed section redoes exactly what depends on it.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Literal, Self

from pydantic import Field, model_validator

from recapture.conf.mask import MaskConfig
from recapture.conf.section import Name, Section
from recapture.conf.tune import TuneConfig

EMBEDDED = "embedded"  # the models that the package brings


class DatasetConfig(Section):
    name: Name = Field("sample", description="Names the manifests, the outputs and the MLflow experiment.")
    uri: str = Field(
        "datasets/sample", min_length=1, description="fsspec URL of a folder, an index or scenes://"
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


class DepthConfig(Section):
    source: Literal["auto", "given", "model"] = Field(
        "auto", description="auto: the clip's own depth, else the model's."
    )
    model: str = Field(
        EMBEDDED,
        min_length=1,
        description="Directory of a transformers depth-estimation model; embedded: the package's own.",
    )
    prediction: Literal["auto", "inverse", "metric"] = Field(
        "auto",
        description="What the model predicts: affine-invariant inverse depth, or depth in scene units; "
        "auto reads it from the model's own configuration.",
    )
    batch: int = Field(8, ge=1, le=256, description="Frames in one forward pass.")
    median_depth: float = Field(
        4.0,
        gt=0,
        description="Scene units that the first frame's median depth is set to where scale is unknown.",
    )
    max_unknown_share: float = Field(
        0.5, ge=0, le=1, description="A frame with more unusable depth than this is an error."
    )


class TrajectoryConfig(Section):
    """One new camera path: a preset, key frames, a file of any dialect, or the source's own, steadied."""

    name: Name | None = Field(None, description="Defaults to the preset and its amount, or the file's name.")
    preset: str | None = None
    angle_degrees: float | None = Field(None, description="For presets that turn.")
    distance: float | None = Field(
        None, description="For presets that travel, as a fraction of the pivot's depth."
    )
    keyframes: tuple[dict[str, float], ...] | None = Field(
        None,
        description="at (0..1), theta, phi (degrees), r, x, y, z (fractions of the pivot's depth), focal.",
    )
    interpolation: Literal["linear", "spline"] = "spline"
    stabilise_seconds: float | None = Field(
        None, gt=0, description="The source's own path, averaged over so many seconds (standard deviation)."
    )
    file: str | None = Field(None, description="A trajectory file; docs/inputs.md lists the dialects.")
    file_format: Literal[
        "auto",
        "opencv",
        "realestate10k",
        "multicamvideo",
        "colmap",
        "nerfstudio",
        "kubric",
        "dycheck",
        "clip",
        "theta_phi_r",
        "phi_theta_r",
        "viewcrafter",
    ] = Field(
        "auto",
        description="The file's dialect; auto tells npz, JSON and folders, text must be named. clip: the "
        "file is a dataset, and another clip's cameras are taken over.",
    )
    file_camera: str | None = Field(
        None, description="Which camera of a file that holds several, such as cam05; which clip of a dataset."
    )
    relative_to: Literal["source", "first", "world"] | None = Field(
        None,
        description="What a file's cameras are: offsets from the source camera of each frame (source), a "
        "motion to be made from the source's first camera on (first), or cameras in the clip's own world "
        "(world). null is source for 4x4 npz and JSON, first for every other dialect.",
    )
    scale: float = Field(1.0, gt=0, description="Factor on the distances that a file's cameras travel.")
    fit_length: bool = Field(False, description="Stretch a file's cameras over the frames of the clip.")
    mode: Literal["gradual", "direct", "bullet_time"] = "gradual"
    easing: Literal["linear", "smooth"] = "linear"
    freeze_frame: int | None = Field(
        None, description="bullet_time: the source frame to hold; null is the middle one."
    )

    @model_validator(mode="after")
    def _one_way_to_say_it(self) -> Self:
        ways = ("preset", "keyframes", "file", "stabilise_seconds")
        given = [field for field in ways if getattr(self, field) is not None]
        if len(given) != 1:
            raise ValueError(f"a trajectory needs exactly one of {', '.join(ways)}; got {given or 'none'}")
        angles = self.file_format in ("theta_phi_r", "phi_theta_r", "viewcrafter")
        if (self.file or self.stabilise_seconds) and not angles and self.mode != "gradual":
            raise ValueError(f"{given[0]} fixes every camera; mode {self.mode!r} does not apply to it")
        of_files = ("file_format", "file_camera", "relative_to", "scale", "fit_length")
        stray = [name for name in of_files if getattr(self, name) != type(self).model_fields[name].default]
        if self.file is None and stray:
            raise ValueError(f"{stray[0]} is for a trajectory file, and none is given; set file")
        if angles and stray[1:]:
            raise ValueError(f"{stray[1]} does not apply to {self.file_format}; leave it out")
        return self

    @property
    def label(self) -> str:
        """The trajectory's name in file names, tables and keys of the plan."""
        if self.name is not None:
            return self.name
        if self.file is not None:
            return _word(PurePosixPath(self.file.split("://")[-1]).stem)
        if self.stabilise_seconds is not None:
            return f"stabilise_{self.stabilise_seconds:g}"
        amount = self.angle_degrees if self.angle_degrees is not None else self.distance
        parts = [self.preset or "keyframes"]
        if amount is not None:
            parts.append(f"{amount:g}")
        if self.mode != "gradual":
            parts.append(self.mode)
        return "_".join(parts)


def _word(text: str) -> str:
    """Text as part of a file's name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip("._-") or "trajectory"


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


class InverseConfig(Section):
    """fill.method inverse: known pixels as a latent mask, which a solver holds every step to."""

    mask: Literal[
        "trilinear",
        "binary",
        "nearest_and",
        "min_pool",
        "area",
        "two_fill",
        "mask_encode",
        "leak_ratio",
        "fill_variance",
    ] = Field("area", description="How far each latent is known; those from two_fill on look into the VAE.")
    channel_mean: bool = Field(False, description="One weight for all channels of a latent.")
    solver: Literal[
        "replacement",
        "proximal",
        "cg",
        "wiener",
        "nvs",
        "ddnm",
        "dds",
        "flowdps",
        "flowchef",
        "langevin",
        "blended",
        "repaint",
        "vision_xl",
        "psld",
    ] = "replacement"
    transition: Literal["velocity", "ddim"] | None = Field(
        None, description="null: the solver's own; all but velocity need the Euler scheduler."
    )
    eta: float | None = Field(None, ge=0, le=1, description="Share of fresh noise at each step of ddim.")
    start: float | None = Field(None, ge=0, lt=1, description="Share of the steps before it acts.")
    stop: float = Field(
        1.0, gt=0, le=1, description="Share of the steps after which the model is left alone."
    )
    mask_floor: float = Field(0.0, ge=0, le=1, description="Weights below it count as unknown.")


class FillConfig(Section):
    method: Literal["base", "inverse", "classical"] = Field(
        "base",
        description="base: a video inpainting model; inverse: the same, held to known pixels by a solver; "
        "classical: propagation, then OpenCV.",
    )
    inverse: InverseConfig = InverseConfig()
    base: str = Field(
        EMBEDDED,
        min_length=1,
        description="Pipeline directory of the Wan family, or a .safetensors file of a Fun-InP transformer; "
        "embedded: the package's own.",
    )
    base_parts: str | None = Field(
        None, description="For a single file: the pipeline directory with its VAE and text encoder."
    )
    adapter: str | None = Field(
        None,
        min_length=1,
        description="LoRA of the base: a file, or a folder that `recapture train` has left, with an adapter "
        "for all clips, one a clip, or both.",
    )
    adapter_scale: float = Field(0.7, ge=0, le=2, description="Of what the adapter changes.")
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="Of transformer and text encoder."
    )
    steps: int = Field(10, ge=1, le=1000)
    guidance_scale: float = Field(1.0, ge=0, description="Classifier-free guidance; 1 or less: off.")
    negative_prompt: str = ""
    scheduler: Literal["euler", "unipc", "dpm++"] = "euler"
    shift: float = Field(2.0, gt=0, description="Time shift; Wan2.1 uses 3 at 480p, 5 at 720p.")
    noise_scale: float = Field(
        0.6,
        gt=0,
        le=1,
        description="Of the initial noise; less is calmer and less detailed. 1 for real bases.",
    )
    feather: int = Field(
        4, ge=0, description="Pixels over which pasted known pixels fade into the fill; 0 pastes nothing."
    )
    window: int = Field(49, ge=5, le=1001, description="Frames the filler sees at once: 4n+1.")
    overlap: int = Field(8, ge=0, description="Frames shared by neighbouring windows and cross-faded.")
    propagate: bool = Field(
        True, description="Take what other frames saw of a static scene before anything is invented."
    )
    inpaint_radius: float = Field(
        3.0, gt=0, le=50, description="classical: radius of OpenCV's Telea inpainting."
    )

    @model_validator(mode="after")
    def _windows_fit(self) -> Self:
        if self.window % 4 != 1:
            near = self.window - self.window % 4 + 1
            raise ValueError(f"fill.window is {self.window}, not 4n+1; use {max(near, 5)} or {near + 4}")
        if self.overlap > self.window // 2:
            raise ValueError(f"fill.overlap {self.overlap} is more than half of fill.window {self.window}")
        if self.adapter is not None and self.method == "classical":
            raise ValueError("fill.adapter changes a base, and fill.method classical has none; set one back")
        return self


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
