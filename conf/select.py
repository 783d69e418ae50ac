"""The settings of masks by a box, points or words in one frame."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from recapture.conf.section import EMBEDDED, Section

Box = tuple[float, float, float, float]
Point = tuple[float, float]


class SelectPrompt(Section):
    """What is meant in one frame of a clip, in pixels of the clip."""

    box: Box | None = Field(
        None, description="Box x, y, width, height around what is redrawn, in pixels of the clip."
    )
    points: tuple[Point, ...] = Field(
        (), description="Points x, y on what is redrawn, in pixels of the clip."
    )
    background: tuple[Point, ...] = Field((), description="Points x, y on what stays.")
    words: str | None = Field(
        None, min_length=1, description="What is redrawn, in words, for models that take words (SAM 3)."
    )
    frame: int = Field(0, ge=0, description="Frame of the clip that box and points refer to.")

    @property
    def given(self) -> bool:
        """Return whether anything is meant."""
        return self.box is not None or bool(self.points) or self.words is not None

    def asked(self) -> dict[str, Any]:
        """Return the prompt alone, as keys contain it."""
        return self.model_dump(mode="json", include=set(SelectPrompt.model_fields))


class SelectConfig(SelectPrompt):
    """What is redrawn, pointed at in one frame and followed through the clip; by default nothing."""

    prompts: str | None = Field(
        None,
        min_length=1,
        description="YAML or JSON file that maps clip ids to box, points, background, words and frame; takes "
        "precedence over these settings.",
    )
    model: str = Field(
        EMBEDDED,
        min_length=1,
        description="Directory of a SAM 2, SAM 3 or EdgeTAM video model of transformers; embedded: growth by "
        "colour, given depth and motion, for boxes and points.",
    )
    precision: Literal["float32", "bfloat16", "float16"] = Field(
        "float32", description="Precision of a model."
    )
    missing: Literal["error", "keep"] = Field(
        "error",
        description="A clip in which nothing is found: error: it is reported and left out; keep: it goes on "
        "with nothing redrawn.",
    )

    @property
    def wanted(self) -> bool:
        """Return whether anything is selected in any clip."""
        return self.given or self.prompts is not None

    @property
    def of_model(self) -> bool:
        """Return whether a model finds it."""
        return self.model != EMBEDDED
