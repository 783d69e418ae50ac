"""The settings of the finished files."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from recapture.conf.section import Section

Codec = Literal["h264", "h265", "prores"]


class DeliverConfig(Section):
    """The finished files of each video."""

    crf: int = Field(
        16,
        ge=0,
        le=51,
        description="Constant rate factor of x264 and x265; smaller is better and larger in bytes.",
    )
    codec: Codec = Field(
        "h264",
        description="Codec of the video: h264 or h265 in recapture.mp4, prores (422 HQ or 4444) in "
        "recapture.mov.",
    )
    bits: Literal[8, 10] | None = Field(
        None, description="Bits per sample; null: 8 for h264 and h265, 10 for prores."
    )
    chroma: Literal["420", "422", "444"] | None = Field(
        None,
        description="Chroma subsampling; null: 420 for h264 and h265; for prores 422, or 444 with "
        "deliver.alpha.",
    )
    alpha: bool = Field(
        False,
        description="Write as an alpha channel what was invented: opaque where the source shows it, "
        "transparent where the fill does. For prores 444 and for deliver.frames.",
    )
    frames: Literal["none", "png", "exr"] = Field(
        "none",
        description="Also write every frame as a picture: png, 8 bits, or exr, half float in linear light.",
    )
    depth: bool = Field(
        False, description="Also write the depth of every frame as a 32-bit EXR, inf where it is invented."
    )
    size: Literal["working", "source"] = Field(
        "working",
        description="Size of the result: working, that of the fill; source, that of the clip: known pixels "
        "are rendered from its own frames, the fill is enlarged.",
    )
    side_by_side: bool = Field(True, description="Also write source, render and result side by side.")
    contact_sheet_frames: int = Field(4, ge=1, le=16, description="Frames on a contact sheet.")
    page: bool = Field(
        True,
        description="Write the results page: index.html of the dataset and of every clip, and page.mp4, "
        "page.jpg and page.js beside each video, which it shows.",
    )
    page_side: int = Field(
        640,
        ge=64,
        le=2048,
        description="Longest side in pixels of each picture in page.mp4; bounds what the results page takes "
        "on disk.",
    )

    @property
    def file(self) -> str:
        """Return the name of the video's file."""
        return "recapture.mov" if self.codec == "prores" else "recapture.mp4"

    @property
    def depth_in_bits(self) -> int:
        """Return the bits per sample."""
        return self.bits or (10 if self.codec == "prores" else 8)

    @property
    def subsampling(self) -> str:
        """Return the chroma subsampling."""
        if self.chroma is not None:
            return self.chroma
        return "420" if self.codec != "prores" else "444" if self.alpha else "422"

    @property
    def video_alpha(self) -> bool:
        """Return whether the video itself has an alpha channel."""
        return self.alpha and self.codec == "prores" and self.subsampling == "444"

    def keyed(self) -> dict[str, Any]:
        """Return the settings that can change the files; the format by what it comes to."""
        written = {"bits": self.depth_in_bits, "chroma": self.subsampling, "alpha": self.alpha}
        left = {"bits", "chroma", "alpha", "crf", "size", *(() if self.page else ("page_side",))}
        kept = self.model_dump(mode="json", exclude=left)
        if self.codec != "prores" or self.side_by_side:
            kept["crf"] = self.crf
        return kept | written

    @model_validator(mode="after")
    def _format_exists(self) -> Self:
        if self.codec == "prores" and self.bits == 8:
            raise ValueError("deliver.bits 8 is none of prores, which has 10; leave deliver.bits out")
        if self.codec == "prores" and self.chroma == "420":
            raise ValueError(
                "deliver.chroma 420 is none of prores, which has 422 and 444; leave deliver.chroma out"
            )
        if self.alpha and not self.video_alpha and self.frames == "none":
            raise ValueError(
                f"deliver.alpha: {self.codec} in {self.subsampling} has no alpha channel; set deliver.codec "
                "prores and deliver.chroma 444, or deliver.frames png or exr"
            )
        return self
