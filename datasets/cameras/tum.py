"""Read the text of TUM RGB-D, which DROID-SLAM, MASt3R-SLAM and evo write too.

One line per frame: time tx ty tz qx qy qz qw, the pose of the camera in the world (camera to world, OpenCV
axes), separated by spaces or commas; lines that begin with # are comments. There are no intrinsics.
"""

from __future__ import annotations

import numpy as np

from recapture.datasets.cameras.cameras import Cameras, inverse, parsed, posed

COLUMNS = 8


def read_tum(uri: str) -> Cameras:
    """Read a trajectory in the order of its times; names are the times. Raises CameraFileError."""
    return parsed(uri, "TUM text", _parse)


def _parse(content: bytes) -> Cameras:
    lines = [line.replace(",", " ").split() for line in content.decode().splitlines()]
    lines = [line for line in lines if line and not line[0].startswith("#")]
    if not lines:
        raise ValueError("it has no line for any frame")
    for number, line in enumerate(lines):
        if len(line) != COLUMNS:
            raise ValueError(
                f"frame {number} has {len(line)} numbers, it must have {COLUMNS}: time tx ty tz qx qy qz qw"
            )
    lines.sort(key=lambda line: float(line[0]))
    rows = np.array([[float(value) for value in line] for line in lines])
    return Cameras(inverse(posed(rows[:, 4:], rows[:, 1:4])), names=tuple(line[0] for line in lines))
