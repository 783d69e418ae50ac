"""Read the metadata.json of Record3D, as ARKit recordings of iPhones and iPads are exported.

poses: [qx qy qz qw tx ty tz] per frame, camera to world with OpenGL's axes (x right, y up, z backward), in
metres; K: nine numbers of the intrinsics, column by column, in pixels of w x h. perFrameIntrinsicCoeffs,
where there are any: [fx fy cx cy] of each frame.
"""

from __future__ import annotations

import json

import numpy as np

from recapture.datasets.cameras.cameras import Cameras, inverse, opengl_to_opencv, parsed, pinhole, posed


def read_record3d(uri: str) -> Cameras:
    """Read the cameras; raises CameraFileError."""
    return parsed(uri, "Record3D's metadata", _parse)


def _parse(content: bytes) -> Cameras:
    fields = json.loads(content)
    poses = np.array(fields["poses"], dtype=np.float64)
    if poses.ndim != 2 or poses.shape[1] != 7 or not len(poses):
        raise ValueError(f"poses is {list(poses.shape)}, it must be [T,7]: qx qy qz qw tx ty tz")
    each = fields.get("perFrameIntrinsicCoeffs")
    if each is not None:
        lenses = np.stack([pinhole(*(float(value) for value in one)) for one in each])
    else:
        lenses = np.tile(np.array(fields["K"], dtype=np.float64).reshape(3, 3).T, (len(poses), 1, 1))
    size = (int(fields["w"]), int(fields["h"])) if {"w", "h"} <= fields.keys() else None
    to_world = posed(poses[:, :4], poses[:, 4:])
    return Cameras(inverse(opengl_to_opencv(to_world)), lenses, size)
