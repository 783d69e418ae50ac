"""Cameras of Kubric scenes as Kubric-4D (GCD, arXiv 2405.14868) stores them: scnNNNNN_p0_vV.json.

camera.K is normalised by width and height and has its own signs; camera.positions and camera.quaternions
(w x y z) are camera to world, the camera looks along -z (OpenGL axes), world z is up, units are metres.
"""

from __future__ import annotations

import json

import numpy as np
from scipy.spatial.transform import Rotation

from recapture.datasets.cameras.cameras import (
    Cameras,
    inverse,
    opengl_to_opencv,
    parsed,
    pinhole,
    rigid,
)


def read_kubric(uri: str) -> Cameras:
    """Read the camera of one view, in pixels of its pictures; raises CameraFileError."""
    return parsed(uri, "Kubric JSON", _parse)


def ray_to_z_depth(distance: np.ndarray, intrinsics: np.ndarray) -> np.ndarray:
    """Return the z-depth [H,W] of distances along rays [H,W]; intrinsics [3,3] in pixels of that map."""
    height, width = distance.shape
    x = (np.arange(width) + 0.5 - intrinsics[0, 2]) / intrinsics[0, 0]
    y = (np.arange(height) + 0.5 - intrinsics[1, 2]) / intrinsics[1, 1]
    return distance / np.sqrt(x[None] ** 2 + y[:, None] ** 2 + 1.0)


def _parse(content: bytes) -> Cameras:
    fields = json.loads(content)
    width, height = (int(side) for side in fields["scene"]["resolution"])
    camera = fields["camera"]
    positions = np.array(camera["positions"], dtype=np.float64)
    quaternions = np.array(camera["quaternions"], dtype=np.float64)
    if positions.ndim != 2 or positions.shape[1] != 3 or quaternions.shape != (len(positions), 4):
        raise ValueError(
            f"positions are {list(positions.shape)} and quaternions {list(quaternions.shape)}, "
            "they must be [T,3] and [T,4]"
        )
    if not (np.isfinite(positions).all() and np.isfinite(quaternions).all()):
        raise ValueError("positions or quaternions are not finite")
    lens = np.abs(np.array(camera["K"], dtype=np.float64))
    rotation = Rotation.from_quat(quaternions, scalar_first=True).as_matrix()
    matrix = pinhole(lens[0, 0] * width, lens[1, 1] * height, lens[0, 2] * width, lens[1, 2] * height)
    return Cameras(
        inverse(opengl_to_opencv(rigid(rotation, positions))),
        np.broadcast_to(matrix, (len(positions), 3, 3)).copy(),
        (width, height),
    )
