"""Cameras of DyCheck's iPhone sequences (arXiv 2210.13445), in the format of Nerfies: a JSON file per frame.

orientation is the world-to-camera rotation (its rows are the camera's axes, OpenCV), position the camera's
centre; focal length and principal point are in pixels of image_size, at full resolution.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import fsspec
import numpy as np

from recapture.datasets.cameras.cameras import (
    CameraFileError,
    Cameras,
    checked,
    pinhole,
    read_bytes,
    rigid,
)
from recapture.datasets.media.natural_order import natural


def read_dycheck(uri: str, camera: str | None = None) -> Cameras:
    """Read all frames of one camera from a folder of `{camera}_{frame:05d}.json`; raises CameraFileError.

    camera: the number before the underscore; by default 0, the moving camera.
    """
    fs, folder = fsspec.core.url_to_fs(uri)
    if not fs.isdir(folder):
        raise CameraFileError(f"cameras {uri!r}: DyCheck keeps cameras in a folder; name that")
    names = [entry.rsplit("/", 1)[-1] for entry in fs.ls(folder, detail=False)]
    chosen = [name for name in names if name.endswith(".json") and name.split("_")[0] == (camera or "0")]
    return read_dycheck_frames([f"{uri.rstrip('/')}/{name}" for name in sorted(chosen, key=natural)], uri)


def read_dycheck_frames(files: Sequence[str], uri: str) -> Cameras:
    """Read camera files in this order; uri is the name of them all in error messages."""
    if not files:
        raise CameraFileError(f"cameras {uri!r}: there is no camera file; check the camera's number")
    poses, lenses, distortions, sizes = [], [], [], set()
    for file in files:
        content = read_bytes(file)
        try:
            fields = json.loads(content)
            focal, (cx, cy) = float(fields["focal_length"]), fields["principal_point"]
            if fields.get("skew", 0.0):
                raise ValueError(f"skew is {fields['skew']}, only 0 is supported")
            aspect = float(fields.get("pixel_aspect_ratio", 1.0))
            rotation = np.array(fields["orientation"], dtype=np.float64).reshape(3, 3)
            centre = np.array(fields["position"], dtype=np.float64).reshape(3)
            radial = [*fields.get("radial_distortion", ()), 0.0, 0.0, 0.0][:3]
            tangential = [*fields.get("tangential_distortion", ()), 0.0, 0.0][:2]
            sizes.add(tuple(int(side) for side in fields["image_size"]))
        except Exception as error:  # a broken file can break the parser anywhere
            raise CameraFileError(
                f"cameras {file!r}: it cannot be read as a DyCheck camera ({type(error).__name__}: {error}); "
                "replace it"
            ) from error
        poses.append(rigid(rotation, -rotation @ centre))
        lenses.append(pinhole(focal, focal * aspect, float(cx), float(cy)))
        distortions.append([radial[0], radial[1], *tangential, radial[2], 0.0, 0.0, 0.0])
    if len(sizes) > 1:
        raise CameraFileError(
            f"cameras {uri!r}: the pictures have different sizes {sorted(sizes)}; use one size"
        )
    distortion = np.array(distortions, dtype=np.float64)
    width, height = sizes.pop()
    cameras = Cameras(
        np.stack(poses),
        np.stack(lenses),
        (width, height),
        tuple(file.rsplit("/", 1)[-1].removesuffix(".json") for file in files),
        distortion if distortion.any() else None,
    )
    return checked(cameras, uri)
