"""Write the current move for other tools: our YAML, every dialect of cameras, and the three-line dialects."""

from __future__ import annotations

from dataclasses import replace
from pathlib import PurePosixPath

import numpy as np

from recapture.conf.errors import UserError
from recapture.conf.presets import AMOUNTS, DEFAULTS
from recapture.conf.trajectory import TrajectoryConfig
from recapture.datasets.cameras.angles import ANGLE_FORMATS, Angles, write_angles
from recapture.datasets.cameras.cameras import CameraFileError, write_bytes
from recapture.datasets.cameras.files import WRITABLE, write_cameras
from recapture.tasks.studio.session import StudioSession

YAML = "yaml"
DIALECTS = (YAML, *WRITABLE, *ANGLE_FORMATS)
SUFFIXES = {YAML: ".yaml", "realestate10k": ".txt", "multicamvideo": ".json", "nerfstudio": ".json"}
SUFFIXES |= {"colmap": "", "colmap_binary": "", "neoverse": ".json"} | dict.fromkeys(ANGLE_FORMATS, ".txt")
ANGLES = {"theta", "phi", "r"}
TURNING = {"left": ("phi", -1), "right": ("phi", 1), "up": ("theta", 1), "down": ("theta", -1)}


def export(session: StudioSession, target: str, dialect: str) -> TrajectoryConfig | None:
    """Write the move to a path or URL; return the trajectory that reads it back. None for YAML and angles.

    YAML holds all chosen moves; files of cameras and of angles hold the current one. Cameras are in the
    clip's world; where the clip has no cameras, that is the world of its first one. Lenses are of the
    working size.

    Raises UserError for a dialect that cannot say this move, naming it and the way out.
    """
    if dialect not in DIALECTS:
        raise UserError(f"dialect {dialect!r} is unknown; use {', '.join(DIALECTS)}")
    try:
        if dialect == YAML:
            write_bytes(target, session.settings().encode())
            return None
        if dialect in ANGLE_FORMATS:
            write_angles(target, angles_of(session.trajectory, dialect), dialect)
            return None
        _refuse_other_moments(session, dialect)
        path = session.path
        size = session.source.content
        write_cameras(target, path.world_to_camera, path.intrinsics, size=size, dialect=dialect)
    except (CameraFileError, OSError) as error:
        raise UserError(f"{session.clip}: {session.trajectory.label} as {dialect}: {error}") from None
    known = "world" if session.source.cameras_known else "source"
    read = "colmap" if dialect == "colmap_binary" else dialect
    return TrajectoryConfig.model_validate({"file": target, "file_format": read, "relative_to": known})


def angles_of(trajectory: TrajectoryConfig, dialect: str) -> Angles:
    """Return a move as theta, phi and r. Raises UserError for a move that is more than these."""
    refused = UserError(
        f"{trajectory.label}: {dialect} holds orbits, and key frames of theta, phi and r at even steps; "
        "write yaml, or a file of cameras"
    )
    if trajectory.subject is not None or trajectory.time is not None:
        raise refused
    if trajectory.mode != "gradual" or trajectory.easing != "linear":
        raise refused
    preset = trajectory.preset
    if preset == "static":
        return Angles((0.0,), (0.0,), (0.0,))
    if preset is not None:
        kind, _, side = preset.partition("_")
        if kind not in ("orbit", "arc") or AMOUNTS[preset] is None:
            raise refused
        part, sign = TURNING[side]
        given = trajectory.angle_degrees
        amount = DEFAULTS["angle_degrees"] if given is None else given
        flat = Angles((0.0,), (0.0,), (0.0,))
        return replace(flat, **{part: (0.0, sign * amount)})
    keys = trajectory.keyframes
    if not keys or any(set(key) - {"at", *ANGLES} for key in keys):
        raise refused
    even = np.allclose([key["at"] for key in keys], np.linspace(0, 1, len(keys)))
    # The dialects join three values by straight lines, and more by the spline that key frames have.
    joined = len(keys) == 2 or (trajectory.interpolation == "linear") == (len(keys) <= 3)
    if len(keys) < 2 or not even or not joined:
        raise refused
    return Angles(*(tuple(key.get(part, 0.0) for key in keys) for part in ("theta", "phi", "r")))


def _refuse_other_moments(session: StudioSession, dialect: str) -> None:
    shown = session.path.source_frame.tolist()
    if shown != list(range(session.source.frames)):
        raise UserError(
            f"{session.trajectory.label}: a file of {dialect} holds cameras and not which moments they show; "
            "write yaml, or take time and bullet_time away"
        )


def default_target(session: StudioSession, dialect: str) -> str:
    """Return a relative path for a move in a dialect; of colmap it is a folder, and vipe wants one."""
    name = f"{PurePosixPath(session.clip).name}_{session.trajectory.label}_{dialect}"
    return f"{name}/pose/cameras.npz" if dialect == "vipe" else name + SUFFIXES.get(dialect, ".npz")
