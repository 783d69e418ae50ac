"""The pose of a key frame from a camera that was placed by hand."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation
from torch import Tensor

SMALLEST = 1e-6  # below it a part is what rounding of the clip's cameras leaves of 0


def pose_of(offset: Tensor, pivot_depth: float) -> dict[str, float]:
    """Return x, y, z, pan, tilt and roll of a motion [4,4] from source to new camera coordinates.

    The inverse of `pose_offset` of models/geometry/trajectories.py for a pose without theta, phi and r.
    Raises ValueError for a camera at or beyond the pivot, which no key frame may pass.
    """
    motion = np.asarray(offset, dtype=np.float64)
    turned = motion[:3, :3].T
    centre = -turned @ motion[:3, 3] / pivot_depth
    if centre[2] >= 1:
        raise ValueError(
            f"the camera is {centre[2]:.3g} of the way to the pivot, and a key frame must stay below 1; move "
            "it back"
        )
    pan, tilt, roll = Rotation.from_matrix(turned).as_euler("YXZ", degrees=True)
    parts = {"x": centre[0], "y": -centre[1], "z": centre[2], "pan": pan, "tilt": tilt, "roll": roll}
    return {name: float(value) for name, value in parts.items() if abs(value) > SMALLEST}
