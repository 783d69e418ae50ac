"""Read MotionScenes as clips, from a `motionscenes://` URI.

    motionscenes://?show=references&category=single&frames=17&side=128
    motionscenes://?show=targets&category=single&reference=0
    motionscenes://?show=truths&category=single&reference=0&target=2&reading=picture

What is left out stands for all there is. References are clips of a motion; targets are pictures (clips of
one frame) to give it to; truths are the targets in motion, in two readings (see `motion_scenes.py`). Every
clip has such a URI of its own, which describes it completely.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from fractions import Fraction
from itertools import product
from typing import Any, Literal
from urllib.parse import parse_qsl, urlencode, urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from recapture.datasets.clips.clip import Clip, ClipError
from recapture.datasets.scenes.layout import Scene
from recapture.datasets.scenes.motion_scenes import (
    CATEGORIES,
    READINGS,
    REFERENCES,
    TARGETS,
    Category,
    Reading,
    motion_scene,
)

SCHEME = "motionscenes://"
# Part of every clip's content hash: increment it if a name no longer gives the same pixels.
MOTION_SCENES_VERSION = 1
RATE = "8"

Show = Literal["references", "targets", "truths"]


class MotionSpec(BaseModel):
    """Which clips of MotionScenes, and everything that their pixels depend on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    show: Show = "references"
    category: Category | None = None
    reference: int | None = Field(None, ge=0, lt=REFERENCES)
    target: int | None = Field(None, ge=0, lt=TARGETS)
    reading: Reading | None = None
    frames: int = Field(17, ge=2, le=1000)
    side: int = Field(128, ge=32, le=4320)

    @model_validator(mode="after")
    def _fits(self) -> MotionSpec:
        if self.target is not None and self.show == "references":
            raise ValueError("a reference has no target; leave out target, or show targets or truths")
        if self.reading is not None and self.show != "truths":
            raise ValueError(f"only truths have a reading; leave it out of {self.show}")
        return self

    @property
    def uri(self) -> str:
        """Return the URI of what this describes."""
        return SCHEME + "?" + urlencode({key: value for key, value in self if value is not None})

    @property
    def clip_id(self) -> str:
        """Return the id of a single clip, such as truths/single-00-2-picture."""
        parts = [self.category, f"{self.reference:02d}"]
        parts += [] if self.target is None else [str(self.target)]
        parts += [] if self.reading is None else [self.reading]
        return f"{self.show}/{'-'.join(str(part) for part in parts)}"

    def each(self) -> Iterator[MotionSpec]:
        """Yield the single clips that this stands for."""
        targets = () if self.show == "references" else range(TARGETS)
        readings = READINGS if self.show == "truths" else ()
        for category, reference, target, reading in product(
            *(
                _all_or(given, every)
                for given, every in zip(
                    (self.category, self.reference, self.target, self.reading),
                    (CATEGORIES, range(REFERENCES), targets, readings),
                )
            )
        ):
            yield self.model_copy(
                update={"category": category, "reference": reference, "target": target, "reading": reading}
            )

    # What SceneSource asks of a scene:

    @property
    def length(self) -> int:
        """Return the number of frames of the clip."""
        return 1 if self.show == "targets" else self.frames

    @property
    def height(self) -> int:
        """Return the clip's height."""
        return self.side

    @property
    def width(self) -> int:
        """Return the clip's width."""
        return self.side

    def scene(self) -> Scene:
        """Return the scene of a single clip."""
        assert self.category is not None and self.reference is not None
        return motion_scene(
            self.category,
            self.reference,
            self.target,
            reading=self.reading or "picture",
            frames=self.frames,
            side=self.side,
        ).scene


def _all_or(given: Any, every: Any) -> tuple[Any, ...]:
    """Return what is given alone, else all there is, else None alone."""
    return (given,) if given is not None else tuple(every) or (None,)


def read_motion_scenes(uri: str) -> Iterator[Clip]:
    """Yield the clips of a motionscenes:// URI; raises ClipError for an invalid one."""
    for spec in motion_spec(uri).each():
        scene = spec.scene()
        described = f"motion scenes {MOTION_SCENES_VERSION}:{spec.uri}"
        yield Clip(
            id=spec.clip_id,
            uri=spec.uri,
            kind="scene",
            fps=RATE,
            frames=spec.length,
            width=spec.width,
            height=spec.height,
            duration=float(spec.length / Fraction(RATE)),
            audio=False,
            caption=scene.captions[0],
            content_hash=hashlib.sha256(described.encode()).hexdigest(),
        )


def motion_spec(uri: str) -> MotionSpec:
    """Return what a motionscenes:// URI describes; raises ClipError naming the wrong key."""
    parts = urlsplit(uri)
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    if parts.scheme != "motionscenes" or parts.netloc or parts.path.strip("/"):
        raise ClipError(f"motion scenes uri {uri!r}: it must start with {SCHEME}?")
    if len(pairs) != len(dict(pairs)):
        raise ClipError(f"motion scenes uri {uri!r}: a key is given twice")
    try:
        return MotionSpec.model_validate(dict(pairs))
    except ValidationError as error:
        wrong = error.errors()[0]
        key = ".".join(str(part) for part in wrong["loc"])
        if wrong["type"] == "extra_forbidden":
            reason = f"unknown key {key!r}; use {', '.join(MotionSpec.model_fields)}"
        else:
            said = wrong["msg"].removeprefix("Value error, ")
            reason = f"{key}={wrong['input']!r}: {said}" if key else said
        raise ClipError(f"motion scenes uri {uri!r}: {reason}") from error
