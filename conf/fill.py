"""The configuration of how holes are filled."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from recapture.conf.section import EMBEDDED, Section

VELOCITY_SOLVERS = ("replacement", "proximal", "cg", "wiener", "nvs")


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
    channel_mean: bool = Field(True, description="One weight for all channels of a latent.")
    solver: Literal[
        "renoised",
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
    ] = Field("renoised", description="What each step does with it; docs/solvers.md.")
    transition: Literal["velocity", "ddim"] | None = Field(
        None, description="null: the solver's own; all but velocity need the Euler scheduler."
    )
    eta: float | None = Field(
        None, ge=0, le=1, description="Share of fresh noise at each step of ddim; null: the solver's own."
    )
    start: float | None = Field(None, ge=0, lt=1, description="Share of the steps before it acts.")
    stop: float = Field(
        1.0, gt=0, le=1, description="Share of the steps after which the model is left alone."
    )
    mask_floor: float = Field(0.0, ge=0, le=1, description="Weights below it count as unknown.")

    @property
    def corrects_velocity(self) -> bool:
        """Whether it leaves the steps to the scheduler, so that any will do."""
        return (self.transition or ("velocity" if self.solver in VELOCITY_SOLVERS else "")) == "velocity"


class PackingConfig(Section):
    """Finished frames of a clip's earlier trajectories, shown to the base while it fills a later one."""

    frames: int = Field(0, ge=0, le=16, description="At most so many a window; 0: none.")
    spacing: int = Field(8, ge=0, description="Frames between any two of them.")
    positions: Literal["appended", "time_aligned"] = Field(
        "appended", description="In time: behind the window's own, or those of the same moments."
    )


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
    vae_precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="Of the VAE; the encoder's masks but mask_encode need float32."
    )
    attention: Literal["native", "cudnn", "flash"] = Field(
        "native", description="Attention kernel; cudnn and flash run on CUDA alone, in bfloat16."
    )
    compile_blocks: bool = Field(
        False, description="torch.compile of the transformer's blocks: a minute once, then faster steps."
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
    packing: PackingConfig = PackingConfig()
    inpaint_radius: float = Field(
        3.0, gt=0, le=50, description="classical: radius of OpenCV's Telea inpainting."
    )

    def keyed(self) -> dict[str, Any]:
        """Return the settings as content keys hold them: those of speed change a result by rounding at most,
        and of packing an item's own key tells.
        """
        keyed = self.model_dump(mode="json", exclude={"packing", "attention", "compile_blocks"})
        if self.vae_precision == "float32":
            del keyed["vae_precision"]
        return keyed

    @model_validator(mode="after")
    def _kernels_fit(self) -> Self:
        if self.attention != "native" and self.precision != "bfloat16":
            raise ValueError(
                f"fill.attention {self.attention!r} takes half precision; set fill.precision bfloat16"
            )
        probing = ("two_fill", "leak_ratio", "fill_variance")
        if self.method == "inverse" and self.inverse.mask in probing and self.vae_precision != "float32":
            raise ValueError(
                f"fill.inverse.mask {self.inverse.mask!r} compares encodings, for which "
                f"fill.vae_precision {self.vae_precision} is too coarse; use float32, or another mask"
            )
        return self

    @model_validator(mode="after")
    def _windows_fit(self) -> Self:
        if self.window % 4 != 1:
            near = self.window - self.window % 4 + 1
            raise ValueError(f"fill.window is {self.window}, not 4n+1; use {max(near, 5)} or {near + 4}")
        if self.overlap > self.window // 2:
            raise ValueError(f"fill.overlap {self.overlap} is more than half of fill.window {self.window}")
        if self.method == "inverse" and self.scheduler != "euler" and not self.inverse.corrects_velocity:
            raise ValueError(
                f"fill.inverse.solver {self.inverse.solver!r} takes Euler's steps, and fill.scheduler is "
                f"{self.scheduler!r}; use 'euler', or fill.inverse.solver 'replacement'"
            )
        if self.adapter is not None and self.method == "classical":
            raise ValueError("fill.adapter changes a base, and fill.method classical has none; set one back")
        if self.packing.frames and self.method == "classical":
            raise ValueError(
                "fill.packing shows frames to a base, and fill.method classical has none; set one back"
            )
        return self
