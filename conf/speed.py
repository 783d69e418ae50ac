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
        description="Compile the transformer's blocks: takes about a minute once, then steps are faster.",
    )
