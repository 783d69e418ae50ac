"""The settings of measuring results."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from recapture.conf.section import EMBEDDED, Section


class LearnedMetricsConfig(Section):
    """Metrics that need weights: each is computed if its model directory is set."""

    lpips: str | None = Field(None, min_length=1, description="Directory of an LPIPS model.")
    clip: str | None = Field(None, min_length=1, description="Directory of a CLIP model.")
    dino: str | None = Field(None, min_length=1, description="Directory of a DINO model.")
    features: str | None = Field(
        EMBEDDED,
        min_length=1,
        description="Directory of a network that `recapture pretrain` trained to judge pictures and clips; "
        "embedded: the one that ships with the package; null: none.",
    )


class MeasureConfig(Section):
    """Measuring the results."""

    baselines: bool = Field(True, description="Also measure the unmodified source and the classical fill.")
    chunk: int = Field(
        48, ge=2, description="Frames that the classical baseline fills at once; limits memory."
    )
    seam_pixels: int = Field(
        16, ge=1, description="Width in pixels of the ring around holes that the seam metrics use."
    )
    learned: LearnedMetricsConfig = LearnedMetricsConfig()

    def keyed(self) -> dict[str, Any]:
        """Return what changes the metrics of any result; models enter by their hashes, elsewhere."""
        return {"seam_pixels": self.seam_pixels}
