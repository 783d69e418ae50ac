"""New camera paths relative to the source camera: presets, key frames and explicit cameras.

A path is made of poses in the source camera's own frame (x right, y down, z forward), so it composes with the
source's motion: world_to_camera[t] = offset[t] @ source_world_to_camera[t]. The pivot is the point at
pivot_depth on the source's optical axis. A pose has these parts, all 0 (focal 1) for the source's own view:

theta, phi  degrees on the sphere about the pivot; +theta lifts the camera, +phi swings it to its right
r           how far it approaches the pivot, as a fraction of the pivot's depth
x, y, z     how far it travels right, up and forward, as fractions of the pivot's depth
pan, tilt, roll  degrees it turns on the spot: right, up, clockwise
focal       factor on the focal length
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from scipy.interpolate import PchipInterpolator
from torch import Tensor

from recapture.models.geometry.cameras import check_cameras, rigid, rotation_degrees
from recapture.models.geometry.subject import offset_about

Mode = Literal["gradual", "direct", "bullet_time"]
Easing = Literal["linear", "smooth"]
PARTS = ("theta", "phi", "r", "x", "y", "z", "pan", "tilt", "roll", "focal")
DEFAULT_ANGLE, DEFAULT_DISTANCE = 20.0, 0.2


@dataclass(frozen=True)
class CameraPath:
    """The cameras of a recaptured video and the source frame that each of its frames shows."""

    intrinsics: Tensor  # [T, 3, 3] float64
    world_to_camera: Tensor  # [T, 4, 4] float64
    source_frame: Tensor  # [T] int64


@dataclass(frozen=True)
class Preset:
    """What a preset does, what its amount is, and its pose at progress s (array in 0..1) and that amount."""

    description: str
    amount: Literal["angle_degrees", "distance", "none"]
    pose: Callable[[np.ndarray, float], Mapping[str, np.ndarray]]


def _line(**factors: float) -> Callable[[np.ndarray, float], Mapping[str, np.ndarray]]:
    return lambda s, amount: {part: factor * amount * s for part, factor in factors.items()}


def _crane(sign: float) -> Callable[[np.ndarray, float], Mapping[str, np.ndarray]]:
    return lambda s, amount: {"y": sign * amount * s, "tilt": -sign * np.degrees(np.arctan(amount * s))}


def _spiral(s: np.ndarray, amount: float) -> Mapping[str, np.ndarray]:
    x, y = amount * s * np.cos(2 * math.pi * s), amount * s * np.sin(2 * math.pi * s)
    return {
        "x": x,
        "y": y,
        "pan": -np.degrees(np.arctan(x)),
        "tilt": -np.degrees(np.arctan2(y, np.hypot(1, x))),
    }


PRESETS: dict[str, Preset] = {
    "static": Preset("stays where the source camera is", "none", _line()),
    "pan_left": Preset("turns left on the spot", "angle_degrees", _line(pan=-1)),
    "pan_right": Preset("turns right on the spot", "angle_degrees", _line(pan=1)),
    "tilt_up": Preset("turns up on the spot", "angle_degrees", _line(tilt=1)),
    "tilt_down": Preset("turns down on the spot", "angle_degrees", _line(tilt=-1)),
    "orbit_left": Preset("swings left about the pivot", "angle_degrees", _line(phi=-1)),
    "orbit_right": Preset("swings right about the pivot", "angle_degrees", _line(phi=1)),
    "orbit_up": Preset("rises about the pivot", "angle_degrees", _line(theta=1)),
    "orbit_down": Preset("sinks about the pivot", "angle_degrees", _line(theta=-1)),
    "left": Preset("travels left", "distance", _line(x=-1)),
    "right": Preset("travels right", "distance", _line(x=1)),
    "up": Preset("travels up", "distance", _line(y=1)),
    "down": Preset("travels down", "distance", _line(y=-1)),
    "zoom_in": Preset(
        "lengthens the focal length", "distance", lambda s, amount: {"focal": (1 + amount) ** s}
    ),
    "zoom_out": Preset(
        "shortens the focal length", "distance", lambda s, amount: {"focal": (1 + amount) ** -s}
    ),
    "dolly_in": Preset("travels towards the pivot", "distance", _line(z=1)),
    "dolly_out": Preset("travels away from the pivot", "distance", _line(z=-1)),
    "dolly_zoom_in": Preset(
        "travels in and widens; the pivot keeps its size",
        "distance",
        lambda s, amount: {"z": amount * s, "focal": 1 - amount * s},
    ),
    "dolly_zoom_out": Preset(
        "travels out and narrows; the pivot keeps its size",
        "distance",
        lambda s, amount: {"z": -amount * s, "focal": 1 + amount * s},
    ),
    "crane_up": Preset("rises and keeps looking at the pivot", "distance", _crane(1)),
    "crane_down": Preset("sinks and keeps looking at the pivot", "distance", _crane(-1)),
    "spiral": Preset("winds outwards once and keeps looking at the pivot", "distance", _spiral),
}
PRESETS |= {f"arc_{side}": PRESETS[f"orbit_{side}"] for side in ("left", "right", "up", "down")}


def preset_path(
    preset: str,
    source_intrinsics: Tensor,  # [T, 3, 3]
    source_world_to_camera: Tensor,  # [T, 4, 4]
    pivot_depth: float | Tensor,
    *,
    angle_degrees: float | None = None,
    distance: float | None = None,
    mode: Mode = "gradual",
    easing: Easing = "linear",
    freeze_frame: int | None = None,
) -> CameraPath:
    """Return the path of a preset by `angle_degrees` or `distance` (20 degrees, 0.2 by default).

    gradual: from the source's view to the full amount over the video; direct: every frame at the full amount;
    bullet_time: the path of gradual about one frozen source frame (the middle one by default). It has one
    argument per setting of a trajectory, hence their number. pivot_depth: or a pivot per frame [T,3], in the
    source camera's coordinates. Raises
    ValueError for an unknown preset, an amount of the wrong kind, or one that would cross the pivot.
    """
    if preset not in PRESETS:
        raise ValueError(f"no preset is called {preset!r}; choose from {', '.join(PRESETS)}")
    kind = PRESETS[preset].amount
    given = {"angle_degrees": angle_degrees, "distance": distance}
    for name, value in given.items():
        if value is not None and name != kind:
            raise ValueError(
                f"preset {preset!r} takes {kind.replace('none', 'no amount')}, not {name}={value:g}"
            )
        if value is not None and not math.isfinite(value):
            raise ValueError(f"preset {preset!r}: {name} is {value}; give a finite number")
    amount = given.get(kind)
    if amount is None:
        amount = DEFAULT_ANGLE if kind == "angle_degrees" else DEFAULT_DISTANCE
    progress = _progress(len(source_world_to_camera), mode, easing)
    return _path(
        PRESETS[preset].pose(progress, amount),
        *(source_intrinsics, source_world_to_camera, pivot_depth, mode, freeze_frame),
    )


def keyframe_path(
    keyframes: Sequence[Mapping[str, float]],
    source_intrinsics: Tensor,  # [T, 3, 3]
    source_world_to_camera: Tensor,  # [T, 4, 4]
    pivot_depth: float | Tensor,
    *,
    mode: Mode = "gradual",
    interpolation: Literal["linear", "spline"] = "spline",
    easing: Easing = "linear",
    freeze_frame: int | None = None,
) -> CameraPath:
    """Return a path through key poses: mappings with `at` (0 = first frame, 1 = last) and parts of a pose.

    Both interpolations pass through every key; the spline is a shape-preserving cubic (PCHIP), which does not
    swing beyond them. Before the first and after the last key the pose is held. A part that a key leaves out
    is the source's own. Raises ValueError for unknown parts, keys out of order or outside 0..1.
    """
    if not keyframes:
        raise ValueError("keyframes: there is none; give at least one")
    for number, key in enumerate(keyframes):
        unknown = sorted(set(key) - {"at", *PARTS})
        if "at" not in key or unknown:
            raise ValueError(
                f"keyframes: key {number} "
                + (f"has unknown parts {unknown}" if unknown else "has no 'at'")
                + f"; a key has 'at' and any of {', '.join(PARTS)}"
            )
        if not all(math.isfinite(value) for value in key.values()) or not 0 <= key["at"] <= 1:
            raise ValueError(
                f"keyframes: key {number} is {dict(key)}; 'at' must be within 0..1 and every value finite"
            )
    at = np.array([key["at"] for key in keyframes])
    if (np.diff(at) <= 0).any():
        raise ValueError(f"keyframes: 'at' must grow from key to key, got {at.tolist()}")
    progress = np.clip(_progress(len(source_world_to_camera), mode, easing), at[0], at[-1])
    pose = {}
    for part in PARTS:
        values = np.array([key.get(part, 1.0 if part == "focal" else 0.0) for key in keyframes])
        if interpolation == "spline" and len(at) > 1:
            pose[part] = PchipInterpolator(at, values)(progress)
        else:
            pose[part] = np.interp(progress, at, values)
    return _path(pose, source_intrinsics, source_world_to_camera, pivot_depth, mode, freeze_frame)


def explicit_path(
    world_to_camera: Tensor,  # [T, 4, 4]
    intrinsics: Tensor | None,  # [T, 3, 3], None: the source's own
    source_intrinsics: Tensor,  # [T, 3, 3]
    source_world_to_camera: Tensor,  # [T, 4, 4]
    *,
    relative: bool,
) -> CameraPath:
    """Return given cameras as a path; `relative` ones map source camera coordinates to the new camera's.

    Raises ValueError for another number of cameras than frames, and for cameras that are none.
    """
    frames = len(source_world_to_camera)
    intrinsics = source_intrinsics if intrinsics is None else intrinsics
    check_cameras(intrinsics, world_to_camera, frames, "the camera file")
    world_to_camera = world_to_camera.double()
    if relative:
        world_to_camera = world_to_camera @ source_world_to_camera.double()
    return CameraPath(intrinsics.double(), world_to_camera, torch.arange(frames))


def pose_offset(pose: Mapping[str, np.ndarray], pivot_depth: float | Tensor, frames: int) -> Tensor:
    """Return the motions [T,4,4] float64 from source to new camera coordinates of poses (part -> [T]).

    pivot_depth: of the pivot on the optical axis, or pivots [T,3] in the source camera's coordinates.
    """
    part = {
        name: torch.from_numpy(
            np.broadcast_to(np.asarray(pose.get(name, 0.0), dtype=np.float64), frames).copy()
        )
        for name in PARTS
    }
    if isinstance(pivot_depth, Tensor):
        return offset_about(part, pivot_depth)
    theta, phi = torch.deg2rad(part["theta"]), torch.deg2rad(part["phi"])
    away = torch.stack(
        [phi.sin() * theta.cos(), -theta.sin(), -phi.cos() * theta.cos()], dim=-1
    )  # from the pivot to the camera
    pivot = away.new_tensor([0.0, 0.0, 1.0])
    travel = torch.stack([part["x"], -part["y"], part["z"]], dim=-1)
    centre = pivot_depth * (pivot + (1 - part["r"])[:, None] * away + travel)
    rotation = (
        rotation_degrees("y", -part["phi"])
        @ rotation_degrees("x", -part["theta"])
        @ rotation_degrees("y", part["pan"])
        @ rotation_degrees("x", part["tilt"])
        @ rotation_degrees("z", part["roll"])
    )
    return rigid(rotation.transpose(1, 2), -(rotation.transpose(1, 2) @ centre[..., None])[..., 0])


def _path(
    pose: Mapping[str, np.ndarray],
    source_intrinsics: Tensor,
    source_world_to_camera: Tensor,
    pivot_depth: float | Tensor,
    mode: Mode,
    freeze_frame: int | None,
) -> CameraPath:
    frames = len(source_world_to_camera)
    if not isinstance(pivot_depth, Tensor) and not (math.isfinite(pivot_depth) and pivot_depth > 0):
        raise ValueError(f"the pivot's depth is {pivot_depth}; the first frame's depth must be positive")
    focal = np.broadcast_to(np.asarray(pose.get("focal", 1.0), dtype=np.float64), frames)
    approach = np.max(np.asarray(pose.get("r", 0.0)) + np.asarray(pose.get("z", 0.0)))
    if approach >= 1:
        raise ValueError(
            f"the path travels {approach:g} of the way to the pivot and would pass it; stay below 1"
        )
    if focal.min() <= 0:
        raise ValueError(f"the path's focal factor falls to {focal.min():g}; it must stay positive")
    source_frame = torch.arange(frames)
    if mode == "bullet_time":
        frozen = frames // 2 if freeze_frame is None else freeze_frame
        if not 0 <= frozen < frames:
            raise ValueError(f"freeze_frame is {frozen}; the clip has frames 0 to {frames - 1}")
        source_frame = torch.full((frames,), frozen)
    intrinsics = source_intrinsics[source_frame].double().clone()
    intrinsics[:, 0, 0] *= torch.from_numpy(focal.copy())
    intrinsics[:, 1, 1] *= torch.from_numpy(focal.copy())
    pivot = pivot_depth[source_frame] if isinstance(pivot_depth, Tensor) else pivot_depth
    offset = pose_offset(pose, pivot, frames)
    return CameraPath(intrinsics, offset @ source_world_to_camera[source_frame].double(), source_frame)


def _progress(frames: int, mode: Mode, easing: Easing) -> np.ndarray:
    progress = np.linspace(0.0, 1.0, frames) if mode != "direct" and frames > 1 else np.ones(frames)
    return progress * progress * (3 - 2 * progress) if easing == "smooth" else progress
