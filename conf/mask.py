"""The settings of an edit: what is redrawn, by which words, and what of the first frame is kept."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from recapture.conf.section import Section


class OutpaintConfig(Section):
    """New picture around the old one: margins as shares of the clip's width or height."""

    left: float = Field(0.0, ge=0, le=2)
    right: float = Field(0.0, ge=0, le=2)
    top: float = Field(0.0, ge=0, le=2)
    bottom: float = Field(0.0, ge=0, le=2)

    @property
    def any(self) -> bool:
        """Return whether there is a margin at all."""
        return max(self.left, self.right, self.top, self.bottom) > 0


class MaskConfig(Section):
    """What of a clip is redrawn instead of kept; nothing, by default."""

    uri: str | None = Field(
        None,
        min_length=1,
        description="A folder with one mask a clip, named by the clip's id: a video, a picture, a folder of "
        "pictures, .npz with mask [T,H,W], or a box track (.json, .csv); or one such file for every clip.",
    )
    threshold: float = Field(
        0.5, ge=0, lt=1, description="Of masks in pictures and videos: brighter than this is redrawn."
    )
    invert: bool = Field(False, description="What the mask shows is kept, all else is redrawn.")
    objects: tuple[int, ...] | Literal["all"] | None = Field(
        None, description="Redraw these ids of the clip's own object maps; all: everything but 0."
    )
    dilate: int = Field(
        2, ge=0, le=256, description="Pixels of the working size by which masks and objects grow."
    )
    replace: bool | None = Field(
        None,
        description="Something new stands where the mask is: it hides what is behind it from a new camera, "
        "and nothing that other frames saw takes its place. null: where a prompt or a first frame is given.",
    )
    outpaint: OutpaintConfig = OutpaintConfig()
    keep_first_frame: bool = Field(False, description="The first frame is known; only later ones are masked.")
    first_frame: str | None = Field(
        None,
        min_length=1,
        description="An edited first frame, known, that replaces the clip's; or a folder of them by clip id.",
    )
    prompt: str | None = Field(None, description="Replaces the captions of all clips.")
    prompts: str | None = Field(
        None, min_length=1, description="YAML or JSON file, clip id: prompt; goes before mask.prompt."
    )

    @property
    def given(self) -> bool:
        """Return whether anything is to be redrawn."""
        return self.uri is not None or bool(self.objects) or self.outpaint.any

    @property
    def replaces(self) -> bool:
        """Return whether something new stands where the mask is, rather than nothing any more."""
        if self.replace is not None:
            return self.replace
        return any(given is not None for given in (self.prompt, self.prompts, self.first_frame))

    def keyed(self) -> dict[str, Any]:
        """Return the settings as content keys hold them; `replaces` is up to whoever reads it."""
        return self.model_dump(mode="json", exclude={"replace"})

    @model_validator(mode="after")
    def _something_is_redrawn(self) -> Self:
        for setting in ("keep_first_frame", "first_frame"):
            if getattr(self, setting) and not self.given:
                raise ValueError(
                    f"mask.{setting} says what is kept, but nothing is redrawn; "
                    "set mask.uri, mask.objects or mask.outpaint"
                )
        return self
