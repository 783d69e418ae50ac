"""The settings of captions for clips that have none."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from recapture.conf.section import EMBEDDED, Section


class CaptionConfig(Section):
    """Captions that are written for clips without one; by default none are."""

    model: str | None = Field(
        None,
        min_length=1,
        description="Directory of a transformers model that answers pictures with text (BLIP, Florence-2, "
        "Qwen-VL, SmolVLM, Idefics); embedded: a rule that names colours and motions of moving bodies in the "
        "words of the embedded base; null: clips without a caption stay without one.",
    )
    frames: int = Field(
        4, ge=1, le=64, description="Frames that a model is shown, spread over the clip, if it takes several."
    )
    prompt: str | None = Field(
        None, description="What a model is asked; null: what suits its family (docs/models.md)."
    )
    template: str = Field(
        "{caption}", description="The caption made of the answer, which replaces {caption}."
    )
    max_tokens: int = Field(96, ge=1, le=1024, description="Longest answer of a model, in tokens.")
    precision: Literal["float32", "bfloat16", "float16"] = Field(
        "float32", description="Precision of a model."
    )
    empty: Literal["keep", "error"] = Field(
        "keep",
        description="A clip of which nothing is said: keep: it has no caption, with a warning; error: it is "
        "reported and left out.",
    )

    @property
    def of_model(self) -> bool:
        """Return whether a model writes the captions."""
        return self.model not in (None, EMBEDDED)

    def keyed(self) -> dict[str, Any]:
        """Return the settings that can change a caption; the model enters by its hash, elsewhere."""
        unused = {"model"} if self.of_model else {"model", "frames", "prompt", "max_tokens", "precision"}
        return self.model_dump(mode="json", exclude=unused)

    @field_validator("template")
    @classmethod
    def _template_has_a_place(cls, template: str) -> str:
        if "{caption}" not in template:
            raise ValueError(
                "it has no {caption}, so the answer would be lost; write for example 'A film: {caption}'"
            )
        return template
