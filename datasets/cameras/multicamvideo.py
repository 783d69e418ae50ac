"""MultiCamVideo's camera_extrinsics.json, also the trajectories of ReCamMaster (arXiv 2503.11647).

{"frame0": {"cam01": "[r00 r01 r02 0] [r10 r11 r12 0] [r20 r21 r22 0] [x y z 1] "}, ...}: camera to world as
row vectors, in centimetres, in Unreal's left-handed axes (x forward, y right, z up) for camera and world.
Converting the camera's axes alone would leave a mirrored world, so the world's y is flipped as well.
"""

from __future__ import annotations

import json
import re

import numpy as np

from recapture.datasets.cameras.cameras import (
    Cameras,
    inverse,
    need_pinhole,
    parsed,
    write_bytes,
)
from recapture.datasets.media.natural_order import natural

SENSOR_MILLIMETRES = 23.76  # both sides: the pictures are square
_CENTIMETRES = 100.0
# OpenCV camera axes (right, down, forward) in Unreal's (forward, right, up).
_CAMERA_AXES = np.array(
    [[0.0, 0.0, 1.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0, -1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
)
_MIRROR = np.diag([1.0, -1.0, 1.0, 1.0])  # Unreal's world to a right-handed one


def read_multicamvideo(uri: str, camera: str | None = None) -> Cameras:
    """Read one camera of the file, in metres and without intrinsics, which the file does not hold.

    camera: such as cam05; None if the file has only one. Raises CameraFileError.
    """
    return parsed(uri, "MultiCamVideo JSON", lambda content: _parse(content, camera))


def write_multicamvideo(uri: str, cameras: Cameras, camera: str | None = None) -> None:
    """Write one camera, named cam01 by default; the intrinsics are lost."""
    need_pinhole(cameras, uri, "MultiCamVideo JSON")
    to_world = _MIRROR @ inverse(cameras.world_to_camera) @ np.linalg.inv(_CAMERA_AXES)
    to_world[:, :3, 3] *= _CENTIMETRES
    frames = {}
    for index, matrix in enumerate(to_world):
        rows = (" ".join(f"{value:.17g}" for value in row) for row in matrix.T)
        frames[f"frame{index}"] = {camera or "cam01": "".join(f"[{row}] " for row in rows)}
    write_bytes(uri, json.dumps(frames).encode())


def camera_names(content: bytes) -> list[str]:
    """Return the names of the cameras of the first frame, in natural order."""
    frames = json.loads(content)
    return sorted(frames[min(frames, key=natural)], key=natural)


def focal_pixels(focal_millimetres: float, width: int) -> float:
    """Return the focal length in pixels of a square picture of this width."""
    return focal_millimetres / SENSOR_MILLIMETRES * width


def _parse(content: bytes, camera: str | None) -> Cameras:
    names = camera_names(content)
    if camera is None and len(names) != 1:
        raise ValueError(f"it has the cameras {', '.join(names)}, name one of them")
    chosen = names[0] if camera is None else camera
    frames = json.loads(content)
    matrices = []
    for frame in sorted(frames, key=natural):
        if chosen not in frames[frame]:
            raise ValueError(f"{frame} has no camera {chosen!r}, it has {', '.join(sorted(frames[frame]))}")
        rows = re.findall(r"\[([^\]]*)\]", frames[frame][chosen])
        matrix = np.array([[float(value) for value in row.split()] for row in rows])
        if matrix.shape != (4, 4):
            raise ValueError(f"{frame} of {chosen} is {list(matrix.shape)}, it must be four rows of four")
        matrices.append(matrix.T)
    to_world = np.stack(matrices)
    to_world[:, :3, 3] /= _CENTIMETRES
    return Cameras(inverse(_MIRROR @ to_world @ _CAMERA_AXES))
