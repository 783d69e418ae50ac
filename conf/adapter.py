"""The settings of adapters of the base."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from recapture.conf.section import Section

TUNED_SCALE = 0.7  # of adapters that this project tunes; their files say it
NOISE = Literal["both", "high", "low"]


class AdapterConfig(Section):
    """One adapter among several."""

    path: str = Field(
        min_length=1,
        description="A LoRA file, a folder with one, a folder with a high_noise and a low_noise file, or a "
        "folder written by `recapture train`; local, or an fsspec URL.",
    )
    scale: float | None = Field(
        None, ge=-10, le=10, description="LoRA scale; null: the scale that the file recommends, else 1."
    )
    transformer: NOISE | None = Field(
        None,
        description="The transformer of Wan2.2 that it is for: high noise (the first), low noise (the "
        "second), or both; null: as the file says.",
    )


def listed(
    adapter: str | None, scale: float | None, adapters: tuple[AdapterConfig, ...]
) -> tuple[AdapterConfig, ...]:
    """Return the adapters of both ways to name them. Raises ValueError where they are mixed."""
    if adapter is not None and adapters:
        raise ValueError("fill.adapter and fill.adapters are both set; name all adapters in fill.adapters")
    if scale is not None and adapters:
        raise ValueError("fill.adapter_scale is for fill.adapter; set the scale of each of fill.adapters")
    return adapters if adapter is None else (AdapterConfig(path=adapter, scale=scale),)
