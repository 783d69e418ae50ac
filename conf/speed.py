"""The settings of a base's speed."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from recapture.conf.section import Section


class SpeedConfig(Section):
    """How fast a base runs; what is set here changes results by rounding alone."""

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
