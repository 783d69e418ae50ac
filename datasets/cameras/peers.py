"""Camera files of Vista4D and NeoVerse, camera to world in OpenCV axes.

vista4d   npz: cam_c2w [T,4,4], intrinsics [T,4] as fx, fy, cx, cy
neoverse  JSON: `keyframes` of operations that accumulate, or `trajectory` of sparse matrices; mode relative
          (offsets from the source camera of each frame) or global
"""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation, Slerp

from recapture.datasets.cameras.cameras import (
    Cameras,
    inverse,
    need_lens,
    need_pinhole,
    parsed,
    pinhole,
    read_bytes,
    rigid,
    write_bytes,
)
from recapture.datasets.media.npz_rows import read_small_npz

_LARGEST = 2**28  # bytes when unpacked
FRAMES = 81  # of a NeoVerse file that states none
ANGLE, DISTANCE, RADIUS = 15.0, 0.1, 1.0  # of its operations
TURNS = {"pan_left": ("y", -1), "pan_right": ("y", 1), "tilt_up": ("x", 1), "tilt_down": ("x", -1)}
MOVES = {
    "move_left": (-1, 0, 0),
    "move_right": (1, 0, 0),
    "boom_up": (0, -1, 0),
    "boom_down": (0, 1, 0),
    "push_in": (0, 0, 1),
    "pull_out": (0, 0, -1),
}


def read_vista4d(uri: str) -> Cameras:
    """Read Vista4D's cameras; raises CameraFileError."""
    return parsed(uri, "vista4d", _vista4d)


def write_vista4d(uri: str, cameras: Cameras) -> None:
    """Write cam_c2w and intrinsics."""
    need_pinhole(cameras, uri, "vista4d")
    lens = need_lens(cameras, uri, "vista4d")
    _write_npz(uri, cam_c2w=inverse(cameras.world_to_camera), intrinsics=_four(lens))


def _vista4d(content: bytes) -> Cameras:
    fields = read_small_npz(content, _LARGEST)
    missing = {"cam_c2w", "intrinsics"} - set(fields)
    if missing:
        raise ValueError(f"it has no {', '.join(sorted(missing))}")
    return Cameras(inverse(_poses(fields["cam_c2w"])), _lenses(fields["intrinsics"]))


def read_neoverse(uri: str) -> Cameras:
    """Read a NeoVerse trajectory; raises CameraFileError, also for a zoom, which it states without a lens."""
    folder = uri.rsplit("/", 1)[0] if "/" in uri else "."
    return parsed(uri, "neoverse", lambda content: _neoverse(json.loads(content), folder))


def write_neoverse(uri: str, cameras: Cameras) -> None:
    """Write a matrix per frame; lenses have no place in the file."""
    need_pinhole(cameras, uri, "neoverse")
    record = {
        "mode": "relative" if cameras.offsets else "global",
        "num_frames": len(cameras),
        "trajectory": {
            "frame_indices": list(range(len(cameras))),
            "frame_matrices": inverse(cameras.world_to_camera).tolist(),
        },
    }
    write_bytes(uri, json.dumps(record).encode())


def _neoverse(fields: dict[str, Any], folder: str) -> Cameras:
    if fields.get("zoom_ratio", 1.0) != 1:
        raise ValueError(f"zoom_ratio is {fields['zoom_ratio']}; use keyframes with focal for a zoom")
    mode, frames = fields.get("mode", "relative"), int(fields.get("num_frames", FRAMES))
    if mode not in ("relative", "global"):
        raise ValueError(f"mode is {mode!r}; it is relative or global")
    if "keyframes" in fields:
        at, poses = _operations(fields["keyframes"])
    else:
        sparse = fields["trajectory"]
        if "file" in sparse:
            name = str(sparse["file"])
            place = name if "://" in name or name.startswith("/") else f"{folder}/{name}"
            sparse = read_small_npz(read_bytes(place), _LARGEST)
        at, poses = np.asarray(sparse["frame_indices"], float), _poses(sparse["frame_matrices"])
    if len(at) != len(poses) or len(at) < 2 or (np.diff(at) <= 0).any():
        raise ValueError(f"{len(poses)} matrices at {at.tolist()}; give two or more, in the order of frames")
    if at[0] != 0 or at[-1] != frames - 1:
        raise ValueError(f"its poses are from frame {at[0]:g} to {at[-1]:g}, and num_frames is {frames}")
    moments = np.arange(frames)
    centres = np.stack([np.interp(moments, at, axis) for axis in poses[:, :3, 3].T], axis=1)
    turns = Slerp(at, Rotation.from_matrix(poses[:, :3, :3]))(moments).as_matrix()
    return Cameras(inverse(rigid(turns, centres)), offsets=mode == "relative")


def _operations(keyframes: list[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """Return times [K] and camera-to-world [K,4,4] of operations, each on top of those before it."""
    times, poses, pose = [], [], np.eye(4)
    for key in keyframes:
        ((time, operations),) = key.items()
        for operation in operations:
            ((kind, given),) = operation.items()
            pose = pose @ _operation(kind, given)
        times.append(float(time))
        poses.append(pose)
    return np.array(times), np.stack(poses)


def _operation(kind: str, given: dict[str, float]) -> np.ndarray:
    """Return one operation as camera to world."""
    angle, distance = float(given.get("angle", ANGLE)), float(given.get("distance", DISTANCE))
    if kind == "static":
        return np.eye(4)
    if kind in MOVES:
        return rigid(np.eye(3), distance * np.array(MOVES[kind]))
    if kind in TURNS:
        axis, sign = TURNS[kind]
        return rigid(Rotation.from_euler(axis, sign * angle, degrees=True).as_matrix(), np.zeros(3))
    if kind not in ("orbit_left", "orbit_right"):
        raise ValueError(f"operation {kind!r} is unknown")
    radius, turn = float(given.get("orbit_radius", RADIUS)), angle if kind == "orbit_right" else -angle
    theta = np.radians(turn)
    way = radius * np.array([np.sin(theta), 0.0, 1 - np.cos(theta)])
    return rigid(Rotation.from_euler("y", -turn, degrees=True).as_matrix(), way)


def _poses(values: Any) -> np.ndarray:
    poses = np.asarray(values, dtype=np.float64)
    if poses.ndim != 3 or poses.shape[1:] != (4, 4):
        raise ValueError(f"its matrices are {list(poses.shape)}; they must be [T,4,4]")
    return poses


def _lenses(values: Any) -> np.ndarray:
    """Return intrinsics [T,3,3] of fx, fy, cx, cy [T,4]."""
    four = np.asarray(values, dtype=np.float64)
    if four.ndim != 2 or four.shape[1] != 4:
        raise ValueError(f"its intrinsics are {list(four.shape)}; they must be [T,4]: fx, fy, cx, cy")
    return np.stack([pinhole(*one) for one in four])


def _four(lens: np.ndarray) -> np.ndarray:
    return np.stack([lens[:, 0, 0], lens[:, 1, 1], lens[:, 0, 2], lens[:, 1, 2]], axis=1)


def _write_npz(uri: str, **arrays: np.ndarray) -> None:
    buffer = BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    write_bytes(uri, buffer.getvalue())
