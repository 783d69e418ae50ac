"""The configuration of one new camera path."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Literal, Self

from pydantic import Field, model_validator

from recapture.conf.section import Name, Section


class TrajectoryConfig(Section):
    """One new camera path: a preset, key frames, a file of any dialect, or the source's own, steadied."""

    name: Name | None = Field(None, description="Defaults to the preset and its amount, or the file's name.")
    preset: str | None = None
    angle_degrees: float | None = Field(None, description="For presets that turn.")
    distance: float | None = Field(
        None, description="For presets that travel, as a fraction of the pivot's depth."
    )
    keyframes: tuple[dict[str, float], ...] | None = Field(
        None,
        description="at (0..1), theta, phi (degrees), r, x, y, z (fractions of the pivot's depth), focal.",
    )
    interpolation: Literal["linear", "spline"] = "spline"
    stabilise_seconds: float | None = Field(
        None, gt=0, description="The source's own path, averaged over so many seconds (standard deviation)."
    )
    file: str | None = Field(None, description="A trajectory file; docs/inputs.md lists the dialects.")
    file_format: Literal[
        "auto",
        "opencv",
        "realestate10k",
        "multicamvideo",
        "colmap",
        "nerfstudio",
        "kubric",
        "dycheck",
        "clip",
        "theta_phi_r",
        "phi_theta_r",
        "viewcrafter",
    ] = Field(
        "auto",
        description="The file's dialect; auto tells npz, JSON and folders, text must be named. clip: the "
        "file is a dataset, and another clip's cameras are taken over.",
    )
    file_camera: str | None = Field(
        None, description="Which camera of a file that holds several, such as cam05; which clip of a dataset."
    )
    relative_to: Literal["source", "first", "world"] | None = Field(
        None,
        description="What a file's cameras are: offsets from the source camera of each frame (source), a "
        "motion to be made from the source's first camera on (first), or cameras in the clip's own world "
        "(world). null is source for 4x4 npz and JSON, first for every other dialect.",
    )
    scale: float = Field(1.0, gt=0, description="Factor on the distances that a file's cameras travel.")
    fit_length: bool = Field(False, description="Stretch a file's cameras over the frames of the clip.")
    mode: Literal["gradual", "direct", "bullet_time"] = "gradual"
    easing: Literal["linear", "smooth"] = "linear"
    freeze_frame: int | None = Field(
        None, description="bullet_time: the source frame to hold; null is the middle one."
    )

    @model_validator(mode="after")
    def _one_way_to_say_it(self) -> Self:
        ways = ("preset", "keyframes", "file", "stabilise_seconds")
        given = [field for field in ways if getattr(self, field) is not None]
        if len(given) != 1:
            raise ValueError(f"a trajectory needs exactly one of {', '.join(ways)}; got {given or 'none'}")
        angles = self.file_format in ("theta_phi_r", "phi_theta_r", "viewcrafter")
        if (self.file or self.stabilise_seconds) and not angles and self.mode != "gradual":
            raise ValueError(f"{given[0]} fixes every camera; mode {self.mode!r} does not apply to it")
        of_files = ("file_format", "file_camera", "relative_to", "scale", "fit_length")
        stray = [name for name in of_files if getattr(self, name) != type(self).model_fields[name].default]
        if self.file is None and stray:
            raise ValueError(f"{stray[0]} is for a trajectory file, and none is given; set file")
        if angles and stray[1:]:
            raise ValueError(f"{stray[1]} does not apply to {self.file_format}; leave it out")
        return self

    @property
    def label(self) -> str:
        """The trajectory's name in file names, tables and keys of the plan."""
        if self.name is not None:
            return self.name
        if self.file is not None:
            return _word(PurePosixPath(self.file.split("://")[-1]).stem)
        if self.stabilise_seconds is not None:
            return f"stabilise_{self.stabilise_seconds:g}"
        amount = self.angle_degrees if self.angle_degrees is not None else self.distance
        parts = [self.preset or "keyframes"]
        if amount is not None:
            parts.append(f"{amount:g}")
        if self.mode != "gradual":
            parts.append(self.mode)
        return "_".join(parts)


def _word(text: str) -> str:
    """Text as part of a file's name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip("._-") or "trajectory"
