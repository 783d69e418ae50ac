"""Read and write 4x4 matrices in npz or JSON.

Fields: world_to_camera or camera_to_world [T,4,4]; optionally intrinsics [T,3,3] or [3,3], size (width,
height) and convention. Without a convention the axes are OpenCV's; `opengl` (y up, z backward) is converted.
Without a size the intrinsics are in the pixels of the clip that the path is used with.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from io import BytesIO
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from recapture.datasets.cameras.cameras import (
    CameraFileError,
    Cameras,
    inverse,
    need_pinhole,
    opengl_to_opencv,
    parsed,
    write_bytes,
)
from recapture.datasets.media.npz_rows import read_small_npz

CONVENTIONS = ("opencv", "opengl")
SUFFIXES = (".npz", ".json")
DISTORTION = ("distortion", "distortion_coefficients", "dist_coeffs", "dist", "k1", "k2", "p1", "p2")
_LARGEST = 2**28  # bytes when unpacked: cameras of a million frames


def read_opencv(uri: str) -> Cameras:
    """Read matrices; raises CameraFileError. npz files are read without pickle."""
    suffix = PurePosixPath(uri).suffix.lower()
    if suffix not in SUFFIXES:
        raise CameraFileError(f"cameras {uri!r}: unknown suffix {suffix!r}; use {' or '.join(SUFFIXES)}")
    return parsed(uri, suffix[1:], _from_npz if suffix == ".npz" else _from_json)


def write_opencv(uri: str, cameras: Cameras) -> None:
    """Write world_to_camera, intrinsics and size as npz or JSON, as the suffix of uri says."""
    need_pinhole(cameras, uri, "a file of matrices")
    suffix = PurePosixPath(uri).suffix.lower()
    if suffix not in SUFFIXES:
        raise CameraFileError(f"cameras {uri!r}: unknown suffix {suffix!r}; use {' or '.join(SUFFIXES)}")
    arrays = {"world_to_camera": cameras.world_to_camera}
    if cameras.intrinsics is not None:
        arrays["intrinsics"] = cameras.intrinsics
        if cameras.size is not None:
            arrays["size"] = np.array(cameras.size)
    if suffix == ".npz":
        buffer = BytesIO()
        np.savez(buffer, **arrays)  # type: ignore[arg-type]
        write_bytes(uri, buffer.getvalue())
    else:
        lists = {name: array.tolist() for name, array in arrays.items()}
        write_bytes(uri, json.dumps({"convention": "opencv"} | lists).encode())


def _from_npz(content: bytes) -> Cameras:
    return _from_fields(read_small_npz(content, _LARGEST))


def _from_json(content: bytes) -> Cameras:
    fields = json.loads(content)
    if not isinstance(fields, dict):
        raise ValueError("it is not a JSON object")
    return _from_fields(fields)


def _from_fields(fields: Mapping[str, Any]) -> Cameras:
    fields = _as_written(fields)
    convention = str(fields.get("convention", "opencv"))
    if convention not in CONVENTIONS:
        raise ValueError(f"convention is {convention!r}, convert it to one of {', '.join(CONVENTIONS)}")
    bent = [name for name in DISTORTION if name in fields and np.any(_array(name, fields[name]))]
    if bent:
        raise ValueError(
            f"it has {', '.join(bent)}, and matrices cannot express a distorted lens; undistort the "
            "pictures, or write colmap or nerfstudio"
        )
    given = [name for name in ("world_to_camera", "camera_to_world") if name in fields]
    if len(given) != 1:
        raise ValueError(
            f"it has {', '.join(sorted(fields)) or 'nothing'}, and must have exactly one of world_to_camera "
            "and camera_to_world [T,4,4]"
        )
    pose = _array(given[0], fields[given[0]])
    if pose.ndim != 3 or pose.shape[1:] != (4, 4) or not len(pose):
        raise ValueError(f"{given[0]} is {list(pose.shape)}, it must be [T,4,4]")
    if given[0] == "camera_to_world" or convention == "opengl":
        to_world = pose if given[0] == "camera_to_world" else inverse(pose)
        pose = inverse(opengl_to_opencv(to_world) if convention == "opengl" else to_world)
    intrinsics = None if fields.get("intrinsics") is None else _array("intrinsics", fields["intrinsics"])
    if intrinsics is not None and intrinsics.shape == (3, 3):
        intrinsics = np.broadcast_to(intrinsics, (len(pose), 3, 3)).copy()
    size = None
    if fields.get("size") is not None:
        width, height = (int(side) for side in np.asarray(fields["size"]).tolist())
        if min(width, height) < 1:
            raise ValueError(f"size is {width}x{height}, it must be positive")
        size = (width, height)
    return Cameras(pose, intrinsics, size)


def _as_written(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what estimators of cameras write under the names that are read here.

    MegaSaM and Vista4D: cam_c2w [T,4,4] with intrinsic or intrinsics. VGGT: extrinsic [T,3,4], world to
    camera, with intrinsic; Depth Anything 3: extrinsics and intrinsics. All have OpenCV axes, and intrinsics
    in pixels of the pictures that they were given: of these, images or depth tell the size.
    """
    if {"world_to_camera", "camera_to_world"} & fields.keys():
        return fields
    names = {"cam_c2w": "camera_to_world", "extrinsic": "world_to_camera", "extrinsics": "world_to_camera"}
    own = [name for name in names if name in fields]
    if len(own) != 1:
        return fields
    pose = _array(own[0], fields[own[0]])
    if pose.ndim == 4 and len(pose) == 1:  # VGGT's batch
        pose = pose[0]
    if pose.ndim == 3 and pose.shape[1:] == (3, 4):
        pose = np.concatenate([pose, np.tile([[[0.0, 0.0, 0.0, 1.0]]], (len(pose), 1, 1))], axis=1)
    lens = fields.get("intrinsics", fields.get("intrinsic"))
    if lens is not None:
        lens = _array("intrinsics", lens)
        lens = lens[0] if lens.ndim == 4 and len(lens) == 1 else lens
    found = {names[own[0]]: pose, "intrinsics": lens}
    return found | ({} if "size" not in fields and _size(fields) is None else {"size": _size(fields)})


def _size(fields: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return (width, height) of the pictures that an estimator was given."""
    if "size" in fields:
        width, height = np.asarray(fields["size"]).tolist()
        return int(width), int(height)
    for name in ("images", "image", "depths", "depth"):
        shape = np.shape(fields.get(name, ()))
        shape = shape[1:] if len(shape) == 5 else shape  # a batch
        if len(shape) == 4 and shape[-1] not in (1, 3):
            shape = (shape[0], *shape[2:], shape[1])  # channels first
        if len(shape) in (3, 4):
            return int(shape[2]), int(shape[1])
    return None


def _array(name: str, values: Any) -> np.ndarray:
    try:
        return np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} is not a regular array of numbers: {error}") from error
