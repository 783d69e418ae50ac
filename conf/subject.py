"""The settings of what a camera path is relative to: a body in the clip."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from recapture.conf.section import Section

WAYS = ("uri", "objects", "box", "point")


class SubjectConfig(Section):
    """The body that a path turns about and keeps in the picture. Without a way to find it: the job's mask."""

    uri: str | None = Field(
        None,
        min_length=1,
        description="Masks of the subject, one per clip, in the forms of mask.uri (box tracks included).",
    )
    objects: tuple[int, ...] | Literal["all"] | None = Field(
        None, description="Ids in the clip's own object maps; all: every id except 0 (background)."
    )
    box: tuple[float, float, float, float] | None = Field(
        None,
        description="Left, top, right, bottom of the subject in one frame, as shares of the picture; it is "
        "followed through the clip.",
    )
    point: tuple[float, float] | None = Field(
        None, description="A point on the subject in one frame, as shares of the picture; it is followed."
    )
    frame: int = Field(0, ge=0, description="The frame of the clip in which box or point was seen.")
    framing: Literal["kept", "first", "centre", "free"] = Field(
        "kept",
        description="Where the subject is in the picture: kept: where the source has it in that frame; "
        "first: where the source has it in its first frame; centre: in the middle; free: where the path "
        "leads.",
    )
    lead_seconds: float = Field(
        0.0, ge=-10, le=10, description="Aim at where the subject will be so much later (negative: was)."
    )
    smooth_seconds: float = Field(
        0.2, ge=0, le=10, description="The subject's way is smoothed by a Gaussian of this deviation; 0: not."
    )
    max_unseen_share: float = Field(
        0.5,
        ge=0,
        lt=1,
        description="Frames without the subject, as a share: up to it its place is interpolated, beyond it "
        "the clip is refused.",
    )

    @model_validator(mode="after")
    def _one_way_to_find_it(self) -> Self:
        given = [name for name in WAYS if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"subject has {' and '.join(given)}; keep one of them")
        if self.frame and self.way not in ("box", "point"):
            raise ValueError("subject.frame is the frame of subject.box or subject.point; leave it out")
        for name in ("box", "point"):
            shares = getattr(self, name)
            if shares is not None and not all(0 <= share <= 1 for share in shares):
                raise ValueError(f"subject.{name} is {list(shares)}; give shares of the picture, 0 to 1")
        if self.box is not None and not (self.box[0] < self.box[2] and self.box[1] < self.box[3]):
            raise ValueError(f"subject.box is {list(self.box)}; it is left, top, right, bottom")
        if self.objects == ():
            raise ValueError("subject.objects is empty; name ids, or all")
        if self.lead_seconds and self.framing == "free":
            raise ValueError("subject.lead_seconds aims the camera, and framing free does not; drop one")
        return self

    @property
    def way(self) -> str | None:
        """Return which setting says where the subject is; None: the job's mask."""
        return next((name for name in WAYS if getattr(self, name) is not None), None)

    def keyed(self) -> dict[str, Any]:
        """Return the settings that can change the path; a file enters by its hash, elsewhere."""
        unused = {"uri", "max_unseen_share"}  # the latter refuses a clip, and changes no path
        if self.way not in ("box", "point"):
            unused |= {"frame"}
        return self.model_dump(mode="json", exclude=unused, exclude_none=True) | {"of": self.way or "mask"}
