"""The settings of which moments of the clip a new video shows."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from recapture.conf.section import Section

AT_SPEED = ("forward", "reverse", "bounce")


class TimeConfig(Section):
    """Time of the new video: at another speed, backwards, to and fro, frozen, or along key times."""

    mode: Literal["forward", "reverse", "bounce", "freeze", "ramp"] = Field(
        description="forward: the clip at another speed; reverse: backwards; bounce: forward and back; "
        "freeze: one frame; ramp: along pairs."
    )
    speed: float | None = Field(
        None,
        ge=0.05,
        le=20,
        description="forward, reverse, bounce: seconds of the clip per second of the new video; 0.5 is slow "
        "motion; null: 1.",
    )
    frame: int | None = Field(None, ge=0, description="freeze: the frame shown; null: the middle one.")
    seconds: float | None = Field(
        None, gt=0, le=3600, description="freeze: length of the new video; null: that of the clip."
    )
    pairs: tuple[tuple[float, float], ...] | None = Field(  # not `keys`: dict(section) would call it
        None,
        min_length=2,
        description="ramp: pairs of a time in the new video and the time in the clip that is shown then, in "
        "seconds; linear in between. The first is at 0.",
    )

    @model_validator(mode="after")
    def _parts_belong_together(self) -> Self:
        used = {"freeze": ("frame", "seconds"), "ramp": ("pairs",)}.get(self.mode, ("speed",))
        for name in ("speed", "frame", "seconds", "pairs"):
            if getattr(self, name) is not None and name not in used:
                raise ValueError(f"time.{name} does not apply to mode {self.mode}; leave it out")
        if self.mode == "forward" and self.speed in (None, 1):
            raise ValueError("time.mode forward needs a speed other than 1, such as 0.5; leave time out")
        if self.mode == "ramp":
            self._check_pairs()
        return self

    def _check_pairs(self) -> None:
        if self.pairs is None:
            raise ValueError("time.mode ramp needs pairs, such as [[0, 0], [2, 1], [3, 3]]")
        times = [at for at, _ in self.pairs]
        if times[0] != 0 or any(later <= earlier for earlier, later in pairwise(times)):
            raise ValueError(f"time.pairs must begin at 0 and be in the order of their times, got {times}")
        if min(shown for _, shown in self.pairs) < 0:
            raise ValueError("time.pairs show a time before the clip begins; use 0 or more")
        if times[-1] > 3600:
            raise ValueError(f"time.pairs end at {times[-1]:g} seconds; the new video may have 3600")

    def keyed(self) -> dict[str, Any]:
        """Return the settings that can change which moments are shown."""
        given = {"mode": self.mode, "speed": self.speed or 1.0} if self.mode in AT_SPEED else {}
        return given or self.model_dump(mode="json", exclude_none=True)
