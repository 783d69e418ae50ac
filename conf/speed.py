"""The settings of a base's speed."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from recapture.conf.section import Section

SHORTCUTS = ("step_cache", "guidance_interval")


class SpeedConfig(Section):
    """How fast a base runs.

    `shortcuts` change results by more than rounding; max_loss chooses them.
    """

    attention: Literal["native", "cudnn", "flash"] = Field(
        "native",
        description="Attention kernel: torch's choice, the fastest since torch 2.11, or one of two others, "
        "which need CUDA and bfloat16.",
    )
    compile_blocks: bool = Field(
        False,
        description="Compile the transformer's blocks, and the VAE's with chunked_vae: takes about a minute "
        "once per machine, then steps are faster. Where it fails, the base runs uncompiled and says so.",
    )
    compile_cache: str | None = Field(
        None,
        min_length=1,
        description="Local folder for compiled code, shared by all workers of a machine; null: torch's own, "
        "below the temporary folder.",
    )
    fused_layers: bool = Field(
        False,
        description="Compute query, key and value by one product, and GELU where its product is written.",
    )
    batched_guidance: bool = Field(
        False,
        description="Predict both branches of guidance as one batch of two: faster, with more memory.",
    )
    merged_adapters: bool = Field(
        False,
        description="Merge adapters into the weights while a clip is filled, so that they cost no time; the "
        "originals are kept in main memory and restored bit for bit.",
    )
    chunked_vae: bool = Field(
        False,
        description="Encode and decode several latent frames at a time, in the layout that GPUs prefer.",
    )
    max_loss: float = Field(
        0.0,
        ge=0,
        le=3,
        description="Loss of PSNR in holes, in dB, that faster fills may have: the first videos of a job are "
        "filled with and without shortcuts to choose them; 0: no loss.",
    )
    calibration: int = Field(
        8, ge=3, le=64, description="Number of videos that max_loss is calibrated on; see docs/running.md."
    )
    step_cache: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Change of the velocity, as a share of its size, up to which a sampling step is "
        "extrapolated from the steps before it; 0 computes every step.",
    )
    guidance_interval: tuple[float, float] = Field(
        (0.0, 1.0),
        description="Shares of the steps between which there is guidance, which doubles a step's cost.",
    )

    @property
    def shortcuts(self) -> dict[str, Any]:
        """Return the settings that change results, where they are not at their defaults."""
        found = self.model_dump(
            mode="json", include={"step_cache", "guidance_interval"}, exclude_defaults=True
        )
        return dict(found)

    def exact(self) -> SpeedConfig:
        """Return the settings without those that change results."""
        return SpeedConfig(**self.model_dump(exclude={"max_loss", *SHORTCUTS}))

    @model_validator(mode="after")
    def _shortcuts_fit(self) -> Self:
        begin, end = self.guidance_interval
        if not 0 <= begin < end <= 1:
            raise ValueError(
                f"fill.speed.guidance_interval is {begin:g} to {end:g}; use shares with 0 <= begin < end <= 1"
            )
        if self.max_loss and self.shortcuts:
            raise ValueError(
                f"fill.speed.max_loss {self.max_loss:g} chooses {' and '.join(self.shortcuts)} itself; "
                "set either max_loss or those"
            )
        return self
