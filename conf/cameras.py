"""Settings of the source's cameras: where they come from, and what is done where they are unsure."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from recapture.conf.section import Section

Source = Literal["auto", "given", "estimate", "still"]


class CamerasConfig(Section):
    """Where the source's cameras come from."""

    source: Source = Field(
        "auto",
        description="given: files beside the clips; estimate: from the picture and its depth, also for clips "
        "that have cameras; still: the camera stands on a tripod in every clip; auto: given where there are "
        "any, else estimated.",
    )
    least_confidence: float = Field(
        0.3,
        ge=0,
        le=1,
        description="Estimates with a lower confidence are not used: the clip is then one without cameras.",
    )
    cuts: Literal["split", "refuse"] = Field(
        "split",
        description="A clip with cuts: split it into shots with cameras of their own, or refuse it.",
    )

    def keyed(self) -> dict[str, Any]:
        """Return the settings that can change an estimate; the source enters elsewhere."""
        return self.model_dump(mode="json", exclude={"source"})
