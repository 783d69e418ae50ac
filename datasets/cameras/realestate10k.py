"""Read and write RealEstate10K's text, which CameraCtrl (arXiv 2404.02101) and VideoX-Fun use too.

The first line names the video; then one line per frame: time in microseconds, fx fy cx cy normalised by width
and height, two zeros (k1 k2), and the 3x4 world_to_camera row by row (OpenCV axes, arbitrary scale).
"""

from __future__ import annotations

import numpy as np

from recapture.datasets.cameras.cameras import (
    CameraFileError,
    Cameras,
    need_lens,
    need_pinhole,
    parsed,
    pinhole,
    rigid,
    write_bytes,
)

COLUMNS = 19


def read_realestate10k(uri: str) -> Cameras:
    """Read a pose file: normalised intrinsics (size 1x1), names are the times. Raises CameraFileError."""
    return parsed(uri, "RealEstate10K text", _parse)


def write_realestate10k(uri: str, cameras: Cameras) -> None:
    """Write a pose file; times are the cameras' names if these are numbers, else frame numbers."""
    need_pinhole(cameras, uri, "RealEstate10K text")
    lens = need_lens(cameras, uri, "RealEstate10K text")
    if cameras.size is None:
        raise CameraFileError(
            f"cameras {uri!r}: RealEstate10K text needs normalised intrinsics; give width and height"
        )
    lens = lens / np.array([[cameras.size[0]], [cameras.size[1]], [1.0]])
    times = [str(index) for index in range(len(cameras))]
    if cameras.names is not None and all(name.isdigit() for name in cameras.names):
        times = list(cameras.names)
    lines = ["recapture"]
    for time, matrix, pose in zip(times, lens, cameras.world_to_camera, strict=True):
        numbers = [matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2], 0.0, 0.0, *pose[:3].ravel()]
        lines.append(" ".join([time, *(f"{number:.17g}" for number in numbers)]))
    write_bytes(uri, ("\n".join(lines) + "\n").encode())


def _parse(content: bytes) -> Cameras:
    lines = [line.split() for line in content.decode().splitlines() if line.strip()]
    if lines and len(lines[0]) != COLUMNS:
        lines = lines[1:]
    if not lines:
        raise ValueError("it has no line for any frame")
    for number, line in enumerate(lines):
        if len(line) != COLUMNS:
            raise ValueError(f"frame {number} has {len(line)} numbers, it must have {COLUMNS}")
    rows = np.array([[float(value) for value in line] for line in lines])
    poses = rows[:, 7:].reshape(-1, 3, 4)
    distortion = np.pad(rows[:, 5:7], [(0, 0), (0, 2)])
    return Cameras(
        rigid(poses[:, :, :3], poses[:, :, 3]),
        np.stack([pinhole(*row[1:5]) for row in rows]),
        (1, 1),
        tuple(line[0] for line in lines),
        distortion if distortion.any() else None,
    )
