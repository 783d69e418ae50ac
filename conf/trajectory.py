"""The settings of one new camera path."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from recapture.conf.presets import (
    AMOUNTS,
    AUTO,
    DEFAULTS,
    LARGEST,
    TURNS,
    AnglePreset,
    BoundConfig,
    DistancePreset,
    StillPreset,
    amount_problem,
)
from recapture.conf.section import Name, Section
from recapture.conf.subject import SubjectConfig
from recapture.conf.time_control import TimeConfig

CameraFormat = Literal[
    "auto",
    "opencv",
    "realestate10k",
    "multicamvideo",
    "colmap",
    "nerfstudio",
    "kubric",
    "dycheck",
    "tum",
    "record3d",
    "vipe",
    "vista4d",
    "neoverse",
]
SCALED = ("postcam", "inspatio")  # whose distances are of the foreground's depth
ANGLE_DIALECTS = ("theta_phi_r", "phi_theta_r", "viewcrafter", *SCALED)
OF_SEVERAL = ("multicamvideo", "dycheck", "clip")  # dialects of files that hold several cameras
POSE_PARTS = ("theta", "phi", "r", "x", "y", "z", "pan", "tilt", "roll", "focal")


class TrajectoryConfig(Section):
    """One new camera path: a preset, key frames, a camera file, or the source's own path smoothed."""

    name: Name | None = Field(
        None,
        description="Name in file names and tables; null: the preset and its amount, or the file's name.",
    )
    preset: Literal[StillPreset, AnglePreset, DistancePreset] | None = Field(
        None, description="A named camera move; docs/inputs.md shows them all."
    )
    angle_degrees: float | None = Field(
        None,
        ge=-360,
        le=360,
        description="Amount of presets that turn (pan, tilt, orbit, arc), in degrees; null: 20.",
    )
    distance: float | None = Field(
        None,
        description="Amount of presets that travel or zoom, as a fraction of the pivot's depth; null: 0.2.",
    )
    amount: Literal["given", "auto"] = Field(
        "given",
        description="auto: the largest amount of a preset that stays within `bound`, found for each clip; "
        "angle_degrees or distance is then the most that it may be (null: 90, 0.9).",
    )
    bound: BoundConfig = BoundConfig()
    keyframes: tuple[dict[str, float], ...] | None = Field(
        None,
        min_length=1,
        description="Key poses. Each has `at` (0 for the first frame, 1 for the last) and any of theta, phi "
        "(degrees around the pivot), r (approach), x, y, z (fractions of the pivot's depth), pan, tilt, roll "
        "(degrees) and focal (a factor).",
    )
    interpolation: Literal["linear", "spline"] = Field(
        "spline", description="Interpolation between key frames; spline does not overshoot them."
    )
    stabilise_seconds: float | None = Field(
        None,
        gt=0,
        description="Follow the source's own path, smoothed by a Gaussian of this standard deviation.",
    )
    file: str | None = Field(
        None, min_length=1, description="Camera or trajectory file; docs/inputs.md lists the dialects."
    )
    file_format: Literal[
        CameraFormat,
        "clip",
        "theta_phi_r",
        "phi_theta_r",
        "viewcrafter",
        "postcam",
        "inspatio",
    ] = Field(
        "auto",
        description="Dialect of the file; auto recognises npz, JSON and folders, text files need a name. "
        "clip: "
        "the file is a dataset, and the cameras of one of its clips are used.",
    )
    file_camera: str | None = Field(
        None, description="Camera of a file that holds several, such as cam05; clip of a dataset."
    )
    relative_to: Literal["source", "first", "world"] | None = Field(
        None,
        description="Meaning of a file's cameras: source: offsets from the source camera of each frame; "
        "first: "
        "a motion that starts at the source's first camera; world: cameras in the clip's own world. null: "
        "source for 4x4 npz and JSON and for neoverse of mode relative, first for every other dialect.",
    )
    scale: float = Field(
        1.0,
        gt=0,
        description="Factor on the distances in a file; of postcam and inspatio the depth of the foreground, "
        "as a share of the pivot's.",
    )
    fit_length: bool = Field(False, description="Stretch a file's cameras over the frames of the clip.")
    mode: Literal["gradual", "direct", "bullet_time"] = Field(
        "gradual",
        description="gradual: from the source's view to the full amount; direct: the full amount in every "
        "frame; "
        "bullet_time: gradual around one frozen frame.",
    )
    easing: Literal["linear", "smooth"] = Field(
        "linear", description="Progress along the path; smooth: slow start and end."
    )
    freeze_frame: int | None = Field(
        None, ge=0, description="bullet_time: the source frame to hold; null: the middle one."
    )
    subject: SubjectConfig | None = Field(
        None,
        description="The body that the path turns about and keeps in the picture, in place of the pivot; {}: "
        "what the job's mask covers.",
    )
    time: TimeConfig | None = Field(
        None, description="Which moments of the clip the new video shows; null: the clip as it is."
    )

    @model_validator(mode="after")
    def _one_way_to_say_it(self) -> Self:
        ways = ("preset", "keyframes", "file", "stabilise_seconds")
        given = [field for field in ways if getattr(self, field) is not None]
        if len(given) != 1:
            raise ValueError(f"a trajectory needs exactly one of {', '.join(ways)}; got {given or 'none'}")
        angles = self.file_format in ANGLE_DIALECTS
        if (self.file or self.stabilise_seconds) and not angles and self.mode != "gradual":
            raise ValueError(f"{given[0]} fixes every camera; mode {self.mode!r} does not apply to it")
        self._check_timing(given[0], angles=angles)
        of_files = ("file_format", "file_camera", "relative_to", "scale", "fit_length")
        stray = [name for name in of_files if getattr(self, name) != type(self).model_fields[name].default]
        if self.file is None and stray:
            raise ValueError(f"{stray[0]} is for a trajectory file, and none is given; set file")
        if self.file_format in SCALED and "scale" in stray:
            stray.remove("scale")
        if angles and stray[1:]:
            raise ValueError(f"{stray[1]} does not apply to {self.file_format}; leave it out")
        if self.file_camera is not None and self.file_format not in ("auto", *OF_SEVERAL):
            raise ValueError(
                f"file_camera is for {', '.join(OF_SEVERAL)}; a file of {self.file_format} holds one camera"
            )
        return self

    def _check_timing(self, way: str, *, angles: bool) -> None:
        """Raise ValueError for a setting of timing that would change nothing."""
        if self.freeze_frame is not None and self.mode != "bullet_time":
            raise ValueError(f"freeze_frame is for mode bullet_time, not {self.mode}; leave one of them out")
        fixed = way in ("file", "stabilise_seconds") and not angles
        if self.easing != "linear" and (fixed or self.mode == "direct"):
            cause = "mode direct has no way to ease" if self.mode == "direct" else f"{way} fixes every camera"
            raise ValueError(f"easing {self.easing!r} does not apply: {cause}; leave it out")
        if self.interpolation != "spline" and self.keyframes is None:
            raise ValueError("interpolation is for keyframes, and none are given; leave it out")

    @field_validator("keyframes")
    @classmethod
    def _keys_are_poses(cls, keys: tuple[dict[str, float], ...] | None) -> Any:
        for number, key in enumerate(keys or ()):
            unknown = sorted(set(key) - {"at", *POSE_PARTS})
            if unknown or "at" not in key:
                problem = f"has unknown parts {unknown}" if unknown else "has no 'at'"
                raise ValueError(f"key {number} {problem}; a key has 'at' and any of {', '.join(POSE_PARTS)}")
            if not all(map(math.isfinite, key.values())) or not 0 <= key["at"] <= 1:
                raise ValueError(f"key {number}: 'at' must be between 0 and 1, and every value finite")
            if key.get("r", 0.0) + key.get("z", 0.0) >= 1 or key.get("focal", 1.0) <= 0:
                raise ValueError(f"key {number}: r + z must stay below 1 (the pivot), and focal above 0")
        moments = [key["at"] for key in keys or ()]
        if any(later <= earlier for earlier, later in pairwise(moments)):
            raise ValueError(f"'at' must increase from key to key, got {moments}")
        return keys

    @model_validator(mode="after")
    def _amount_fits(self) -> Self:
        amounts = {"angle_degrees": self.angle_degrees, "distance": self.distance}
        problem = amount_problem(self.preset, {name: one for name, one in amounts.items() if one is not None})
        if problem is not None:
            raise ValueError(problem)
        if self.amount == AUTO and (self.preset is None or AMOUNTS[self.preset] is None):
            raise ValueError("amount auto is for a preset with an amount; set such a preset, or leave it out")
        if self.amount == AUTO and self.most == 0:
            raise ValueError("amount auto may be at most 0, which is no move; raise the preset's amount")
        if self.bound != BoundConfig() and self.amount != AUTO:
            raise ValueError("bound is for amount auto; set that, or leave bound out")
        if self.time is not None and self.mode == "bullet_time":
            raise ValueError("mode bullet_time freezes time, and time is set too; leave one of them out")
        if self.subject is not None and self.subject.framing != "free" and self.preset in TURNS:
            raise ValueError(
                f"preset {self.preset!r} turns the camera away, and the subject is to be framed; set "
                "subject.framing free, or choose another preset"
            )
        return self

    @property
    def most(self) -> float:
        """Return the most that an amount of auto may be."""
        assert self.preset is not None
        name = AMOUNTS[self.preset] or "distance"
        given = getattr(self, name)
        return float(LARGEST[name] if given is None else given)

    def settled(self, amount: float) -> Self:
        """Return the trajectory with the amount that was found."""
        assert self.preset is not None
        settled = {str(AMOUNTS[self.preset]): amount, "amount": "given", "bound": BoundConfig()}
        return self.model_copy(update=settled)

    def keyed(self) -> dict[str, Any]:
        """Return the settings that can change the path; a file enters by its content, elsewhere."""
        more: dict[str, Any] = {}
        if self.amount == AUTO:
            # 2: what a mask removes is no hole of the move
            more = {"amount": AUTO, "found": 2, "most": self.most, "bound": self.bound.keyed()}
        for name in ("subject", "time"):
            if (part := getattr(self, name)) is not None:
                more[name] = part.keyed()
        return self._of_the_way() | more

    def _of_the_way(self) -> dict[str, Any]:
        timed = {"mode": self.mode, "easing": self.easing}
        if self.mode == "direct":
            del timed["easing"]  # no frame is on the way
        frozen = {"freeze_frame": self.freeze_frame} if self.mode == "bullet_time" else {}
        if self.stabilise_seconds is not None:
            return {"stabilise_seconds": self.stabilise_seconds}
        if self.file is not None and self.file_format in ANGLE_DIALECTS:
            scaled = {"scale": self.scale} if self.file_format in SCALED else {}
            return {"file_format": self.file_format, **scaled, **timed, **frozen}
        if self.file is not None:
            of_files = {"file_format", "file_camera", "relative_to", "scale", "fit_length"}
            return self.model_dump(mode="json", include=of_files)
        if self.keyframes is not None:
            keys = [dict(key) for key in self.keyframes]
            return {"keyframes": keys, "interpolation": self.interpolation, **timed, **frozen}
        assert self.preset is not None
        name = self.preset.replace("arc_", "orbit_")
        if (amount := AMOUNTS[self.preset]) is None:
            return {"preset": name, **frozen}
        given = getattr(self, amount)
        return {"preset": name, "amount": DEFAULTS[amount] if given is None else given, **timed, **frozen}

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
        parts: list[str] = [self.preset or "keyframes"]
        if amount is not None:
            parts.append(f"{amount:g}")
        if self.amount == AUTO:
            parts.append(AUTO)
        if self.time is not None:
            parts.append(self.time.mode)
        if self.mode != "gradual":
            parts.append(self.mode)
        return "_".join(parts)


def _word(text: str) -> str:
    """Text as part of a file's name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip("._-") or "trajectory"
