"""The settings of an edit: what is redrawn, from which prompt, and what is kept of the first frame."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from recapture.conf.section import Section
from recapture.conf.select import SelectConfig


class OutpaintConfig(Section):
    """New picture around the clip: margins as shares of its width or height."""

    left: float = Field(0.0, ge=0, le=2, description="Margin on the left, as a share of the width.")
    right: float = Field(0.0, ge=0, le=2, description="Margin on the right, as a share of the width.")
    top: float = Field(0.0, ge=0, le=2, description="Margin at the top, as a share of the height.")
    bottom: float = Field(0.0, ge=0, le=2, description="Margin at the bottom, as a share of the height.")

    @property
    def any(self) -> bool:
        """Return whether any margin is set."""
        return max(self.left, self.right, self.top, self.bottom) > 0


class MaskConfig(Section):
    """What is redrawn in a clip instead of kept; by default nothing."""

    uri: str | None = Field(
        None,
        min_length=1,
        description="Folder with one mask per clip, named by the clip's id: a video, a picture, a folder of "
        "pictures, .npz with mask [T,H,W], or a box track (.json, .csv); or one such file for all clips.",
    )
    threshold: float = Field(
        0.5, ge=0, lt=1, description="Pixels brighter than this in pictures and videos are redrawn."
    )
    invert: bool = Field(False, description="Keep what the mask covers and redraw the rest.")
    objects: tuple[int, ...] | Literal["all"] | None = Field(
        None, description="Ids of the clip's own object maps to redraw; all: every id except 0 (background)."
    )
    select: SelectConfig = SelectConfig()
    dilate: int = Field(
        2,
        ge=0,
        le=256,
        description="Pixels by which masks, objects and selections are dilated, at the working size.",
    )
    replace: bool | None = Field(
        None,
        description="true: something new replaces what the mask covers, so it also hides what is behind it "
        "from "
        "a new camera and is not filled from other frames. false: it is removed. null: true where a prompt "
        "or "
        "first frame is given.",
    )
    outpaint: OutpaintConfig = OutpaintConfig()
    keep_first_frame: bool = Field(
        False, description="Keep the first frame as it is and mask only later frames."
    )
    first_frame: str | None = Field(
        None,
        min_length=1,
        description="Edited first frame that replaces the clip's own; or a folder with one per clip id.",
    )
    prompt: str | None = Field(None, description="Prompt for all clips, in place of their captions.")
    prompts: str | None = Field(
        None,
        min_length=1,
        description="YAML or JSON file that maps clip ids to prompts; takes precedence over mask.prompt.",
    )

    @property
    def given(self) -> bool:
        """Return whether anything is redrawn."""
        drawn = self.uri is not None or bool(self.objects) or self.select.wanted
        return drawn or self.outpaint.any

    @property
    def replaces(self) -> bool:
        """Return whether something new replaces what the mask covers, instead of the background."""
        if self.replace is not None:
            return self.replace
        return any(given is not None for given in (self.prompt, self.prompts, self.first_frame))

    def keyed(self) -> dict[str, Any]:
        """Return the settings that can change the pixels of a mask.

        Files enter by their hashes, selections by the keys of their artifacts, prompts as captions, and
        `replaces` where it holds, all elsewhere.
        """
        unused = {"select", "uri", "first_frame", "prompt", "prompts", "replace"}
        if self.uri is None:
            unused |= {"threshold", "invert"}
        if self.uri is None and not self.objects and not self.select.wanted:
            unused |= {"dilate"}
        if self.first_frame is not None:
            unused |= {"keep_first_frame"}
        return self.model_dump(mode="json", exclude=unused)

    @model_validator(mode="after")
    def _something_is_redrawn(self) -> Self:
        for setting in ("keep_first_frame", "first_frame"):
            if getattr(self, setting) and not self.given:
                raise ValueError(
                    f"mask.{setting} is set, but nothing is redrawn; "
                    "set mask.uri, mask.objects, mask.select or mask.outpaint"
                )
        return self
