"""The settings of filling holes."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from recapture.conf.adapter import AdapterConfig, listed
from recapture.conf.inverse import REPEATING_SOLVERS, InverseConfig
from recapture.conf.section import EMBEDDED, Section
from recapture.conf.speed import SpeedConfig

# Paths of the base: the stages that load it put the hashes of the files into their keys
MODEL_FILES = ("base", "base_2", "base_parts", "vae", "text_encoder", "tokenizer", "image_encoder")
FEATHER = 4
_ADAPTERS = ("adapter", "adapter_scale", "adapters")
_KEYED_ELSEWHERE = {*MODEL_FILES, *_ADAPTERS, "packing", "reference", "speed", "memory"}
_UNUSED = {"inverse", "inpaint_radius", "feather", *_KEYED_ELSEWHERE}  # by some methods


class PackingConfig(Section):
    """Temporal packing: frames of a clip's earlier trajectories, shown while a later one is filled."""

    frames: int = Field(
        0, ge=0, le=16, description="Maximum number of packed frames per window; 0 disables packing."
    )
    spacing: int = Field(8, ge=0, description="Minimum distance between packed frames, in frames.")
    positions: Literal["appended", "time_aligned"] = Field(
        "appended",
        description="Temporal positions of packed frames: after the window's own, or those of the same "
        "moments.",
    )


class FillConfig(Section):
    """How holes are filled: the method, the base model and its sampling."""

    method: Literal["base", "inverse", "classical"] = Field(
        "inverse",
        description="base: a video inpainting model; inverse: the same with a solver that enforces known "
        "pixels; "
        "classical: propagation, then OpenCV.",
    )
    inverse: InverseConfig = InverseConfig()
    base: str = Field(
        EMBEDDED,
        min_length=1,
        description="Base of the Wan family: a diffusers directory, a folder in Wan's original layout, or a "
        ".safetensors or .gguf file of a transformer; embedded: the base that ships with the package.",
    )
    base_2: str | None = Field(
        None,
        min_length=1,
        description="Low-noise transformer of Wan2.2 where fill.base is the high-noise one alone.",
    )
    base_parts: str | None = Field(
        None,
        min_length=1,
        description="Diffusers directory whose VAE, text encoder, tokenizer and image encoder replace "
        "those of fill.base.",
    )
    vae: str | None = Field(
        None, min_length=1, description="VAE: a folder or .safetensors file; null: of the base or its parts."
    )
    text_encoder: str | None = Field(
        None,
        min_length=1,
        description="UMT5 encoder: a folder or .safetensors file; null: of the base or its parts.",
    )
    tokenizer: str | None = Field(
        None,
        min_length=1,
        description="Folder of the tokenizer; null: of the text encoder's file, the base or its parts.",
    )
    image_encoder: str | None = Field(
        None,
        min_length=1,
        description="CLIP vision model: a folder or .safetensors file; null: of the base or its parts.",
    )
    adapter: str | None = Field(
        None,
        min_length=1,
        description="LoRA adapter of the base: a file of any maker, a folder with one, or a folder written "
        "by `recapture train` with an adapter for all clips, one per clip, or both; see docs/adapters.md.",
    )
    adapter_scale: float | None = Field(
        None,
        ge=-10,
        le=10,
        description="LoRA scale: 0 disables the adapter, 1 applies it fully; null: the scale that the file "
        "recommends (0.7 for those of `recapture train`), else 1.",
    )
    adapters: tuple[AdapterConfig, ...] = Field(
        (), description="Several adapters, each with its scale and transformer; in place of fill.adapter."
    )
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="Precision of transformer and text encoder."
    )
    vae_precision: Literal["float32", "bfloat16"] = Field(
        "float32",
        description="Precision of the VAE; the masks two_fill, leak_ratio and fill_variance need float32.",
    )
    speed: SpeedConfig = SpeedConfig()
    memory: Literal["auto", "gpu", "offload", "lean"] = Field(
        "auto",
        description="Where the base is kept: gpu, all on the GPU; offload, in the host's memory, block by "
        "block on the GPU; lean, as offload, with the VAE on as few frames as possible; auto, the first that "
        "fits. Results are the same.",
    )
    steps: int = Field(10, ge=1, le=1000, description="Sampling steps per window.")
    guidance_scale: float = Field(1.0, ge=0, description="Classifier-free guidance; 1 or less disables it.")
    guidance_scale_2: float | None = Field(
        None, ge=0, description="Guidance scale of Wan2.2's second transformer; null uses guidance_scale."
    )
    negative_prompt: str = Field("", description="Prompt that guidance steers away from.")
    scheduler: Literal["euler", "unipc", "dpm++"] = Field("euler", description="Sampler of the flow ODE.")
    shift: float = Field(2.0, gt=0, description="Timestep shift; Wan2.1 uses 3 at 480p, 5 at 720p.")
    noise_scale: float = Field(
        0.6,
        gt=0,
        le=1,
        description="Scale of the initial noise; less gives calmer and less detailed fills. Use 1 for "
        "full-size bases.",
    )
    compositing: Literal["membrane", "feather", "none"] = Field(
        "membrane",
        description="How known pixels and the model's output become one picture. membrane: known pixels come "
        "back bit for bit, and the difference beside a hole is continued into it; feather: known pixels fade "
        "into the output beside a hole; none: the output everywhere.",
    )
    feather: int | None = Field(
        None,
        ge=0,
        description="compositing feather: width of the fade in pixels; null: 4.",
    )
    window: int = Field(49, ge=5, le=1001, description="Frames that are filled at once; must be 4n+1.")
    overlap: int = Field(8, ge=0, description="Frames that neighbouring windows share and cross-fade.")
    propagate: bool = Field(
        True,
        description="Fill holes of a static scene from other frames before the model generates the rest.",
    )
    propagate_by: Literal["cloud", "frames"] = Field(
        "cloud",
        description="How fill.propagate looks for what other frames saw. cloud: in one point cloud of what "
        "stands still in the whole clip; frames: in the frames 4 and 12 before and after.",
    )
    packing: PackingConfig = PackingConfig()
    reference: str | None = Field(
        None,
        min_length=1,
        description="Picture of what is in the clips, of any size, that a VACE base is shown besides: a "
        "local path; source: each window's first source frame.",
    )
    inpaint_radius: float = Field(
        3.0, gt=0, le=50, description="classical: radius of OpenCV's Telea inpainting."
    )

    @property
    def feathered(self) -> int:
        """Return the width of compositing feather."""
        return FEATHER if self.feather is None else self.feather

    @property
    def chosen_adapters(self) -> tuple[AdapterConfig, ...]:
        """Return the adapters of fill.adapter or fill.adapters."""
        return listed(self.adapter, self.adapter_scale, self.adapters)

    def keyed(self) -> dict[str, Any]:
        """Return the settings that can change a fill with this method.

        Models and adapters enter by their hashes and an item that is packed by its packing, both elsewhere.
        Of the settings of speed, most change results only by rounding.
        """
        if self.method == "classical":
            used = ("method", "window", "overlap", "propagate", "propagate_by", "inpaint_radius")
            return self._without_unused(self.model_dump(mode="json", include=set(used)))
        keyed = self.model_dump(mode="json", exclude=set(_UNUSED))
        if self.compositing == "feather":
            keyed["feather"] = self.feathered
        keyed |= self.speed.shortcuts
        if self.method == "inverse":
            keyed["inverse"] = self.inverse.keyed()
        if self.guidance_scale <= 1:
            keyed |= {"guidance_scale": 1.0, "negative_prompt": ""}
        return self._without_unused(keyed)

    def _without_unused(self, keyed: dict[str, Any]) -> dict[str, Any]:
        """Return the settings without how to propagate, where nothing is propagated."""
        return keyed if self.propagate else {k: v for k, v in keyed.items() if k != "propagate_by"}

    def keyed_for(self, frames: int) -> dict[str, Any]:
        """Return `keyed` for a clip of so many frames: one that fits a window is not cut."""
        keyed = self.keyed()
        if frames <= self.window:
            del keyed["window"], keyed["overlap"]
        return keyed

    @model_validator(mode="after")
    def _kernels_fit(self) -> Self:
        if self.speed.attention != "native" and self.precision != "bfloat16":
            raise ValueError(
                f"fill.speed.attention {self.speed.attention!r} needs half precision; "
                "set fill.precision bfloat16"
            )
        probing = ("two_fill", "leak_ratio", "fill_variance")
        if self.method == "inverse" and self.inverse.mask in probing and self.vae_precision != "float32":
            raise ValueError(
                f"fill.inverse.mask {self.inverse.mask!r} compares encodings, for which "
                f"fill.vae_precision {self.vae_precision} is too coarse; use float32 or another mask"
            )
        return self

    @model_validator(mode="after")
    def _windows_fit(self) -> Self:
        if self.window % 4 != 1:
            near = self.window - self.window % 4 + 1
            raise ValueError(f"fill.window is {self.window}, not 4n+1; use {max(near, 5)} or {near + 4}")
        if self.overlap > self.window // 2:
            raise ValueError(f"fill.overlap {self.overlap} is more than half of fill.window {self.window}")
        self._check_shortcuts()
        self._check_feather()
        if self.method == "inverse" and self.scheduler != "euler" and not self.inverse.corrects_velocity:
            raise ValueError(
                f"fill.inverse.solver {self.inverse.solver!r} needs Euler steps, and fill.scheduler is "
                f"{self.scheduler!r}; use 'euler', fill.inverse.solver 'replacement' or fill.method base"
            )
        if self.guidance_scale_2 is not None and self.guidance_scale <= 1:
            raise ValueError(
                f"fill.guidance_scale_2 {self.guidance_scale_2:g} needs guidance, which fill.guidance_scale "
                f"{self.guidance_scale:g} turns off; set that above 1"
            )
        if self.chosen_adapters and self.method == "classical":
            raise ValueError(
                "fill.adapter needs a base, and fill.method classical has none; unset one of them"
            )
        if self.packing.frames and self.method == "classical":
            raise ValueError(
                "fill.packing needs a base, and fill.method classical has none; unset one of them"
            )
        return self

    @model_validator(mode="after")
    def _a_reference_stands_alone(self) -> Self:
        if self.reference is not None and self.packing.frames:
            raise ValueError(
                "fill.reference cannot be shown beside the frames of fill.packing.frames "
                f"{self.packing.frames}; set one of them"
            )
        return self

    def _check_feather(self) -> None:
        """Raise ValueError for a feather that compositing would ignore."""
        if self.feather == 0:
            raise ValueError(
                "fill.feather 0 kept the model's output everywhere; that is fill.compositing none now"
            )
        if self.feather is not None and self.compositing != "feather":
            raise ValueError(
                f"fill.feather {self.feather} is for fill.compositing feather, and that is "
                f"{self.compositing}; set fill.compositing feather, or leave fill.feather out"
            )

    def _check_shortcuts(self) -> None:
        """Raise ValueError for settings of `speed` that this method or solver cannot have."""
        lossy = [*self.speed.shortcuts, *(["max_loss"] if self.speed.max_loss else [])]
        if lossy and self.method == "classical":
            raise ValueError(
                f"fill.speed.{lossy[0]} needs a base, and fill.method classical has none; unset it"
            )
        if self.speed.step_cache and self.method == "inverse" and self.inverse.solver in REPEATING_SOLVERS:
            raise ValueError(
                f"fill.speed.step_cache cannot serve fill.inverse.solver {self.inverse.solver!r}, which "
                "repeats steps; set it to 0 or choose another solver"
            )
        if "guidance_interval" in lossy and self.guidance_scale <= 1:
            raise ValueError(
                "fill.speed.guidance_interval needs guidance, which fill.guidance_scale "
                f"{self.guidance_scale:g} turns off; set that above 1"
            )
