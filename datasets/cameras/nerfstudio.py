"""Read and write nerfstudio's transforms.json: camera_to_world, OpenGL axes, one lens or one per frame."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from recapture.datasets.cameras.cameras import (
    Cameras,
    inverse,
    need_lens,
    need_size,
    opengl_to_opencv,
    parsed,
    pinhole,
    write_bytes,
)
from recapture.datasets.media.natural_order import natural

FILE = "transforms.json"
_FISHEYE = ("OPENCV_FISHEYE",)
_MODELS = ("SIMPLE_PINHOLE", "PINHOLE", "OPENCV", *_FISHEYE)


def read_nerfstudio(uri: str) -> Cameras:
    """Read the cameras in the natural order of their pictures' names; raises CameraFileError."""
    return parsed(uri, "nerfstudio JSON", parse_nerfstudio)


def sorted_frames(fields: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the entries of `frames` in the natural order of file_path."""
    frames = fields.get("frames")
    if not isinstance(frames, list) or not frames:
        raise ValueError("it has no list 'frames' with entries")
    return sorted(frames, key=lambda frame: natural(frame["file_path"]))


def parse_nerfstudio(content: bytes) -> Cameras:
    """Parse a transforms.json; raises ValueError."""
    fields = json.loads(content)
    frames = sorted_frames(fields)
    lenses = [fields | frame for frame in frames]
    models = {lens.get("camera_model", "PINHOLE") for lens in lenses}
    if len(models) != 1 or not models <= set(_MODELS):
        raise ValueError(
            f"camera_model is {', '.join(sorted(models))}; it must be one of {', '.join(_MODELS)}"
        )
    fisheye = models <= set(_FISHEYE)
    to_world = np.stack([_transform(index, frame) for index, frame in enumerate(frames)])
    sizes = {(int(lens["w"]), int(lens["h"])) for lens in lenses if "w" in lens and "h" in lens}
    if len(sizes) > 1:
        raise ValueError(f"its pictures have different sizes {sorted(sizes)}; use one size")
    names = ("k1", "k2", "k3", "k4") if fisheye else ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")
    distortion = np.array([[float(lens.get(name, 0.0)) for name in names] for lens in lenses])
    return Cameras(
        inverse(opengl_to_opencv(to_world)),
        np.stack([_intrinsics(lens) for lens in lenses]),
        next(iter(sizes), None),
        tuple(frame["file_path"] for frame in frames),
        distortion if distortion.any() else None,
        fisheye,
    )


def write_nerfstudio(uri: str, cameras: Cameras) -> None:
    """Write a transforms.json; pictures without a name become images/00000.png and so on."""
    write_bytes(uri, json.dumps(nerfstudio_fields(uri, cameras)).encode())


def nerfstudio_fields(uri: str, cameras: Cameras) -> dict[str, Any]:
    """Return what a transforms.json at uri holds: camera_model, w, h, and `frames` in order."""
    lens = need_lens(cameras, uri, "nerfstudio JSON")
    width, height = need_size(cameras, uri, "nerfstudio JSON")
    names = cameras.names or tuple(f"images/{index:05d}.png" for index in range(len(cameras)))
    to_world = opengl_to_opencv(inverse(cameras.world_to_camera))
    model = "PINHOLE" if cameras.distortion is None else "OPENCV_FISHEYE" if cameras.fisheye else "OPENCV"
    frames: list[dict[str, Any]] = []
    for index, (name, matrix, pose) in enumerate(zip(names, lens, to_world, strict=True)):
        frame = {"file_path": name, "transform_matrix": pose.tolist()}
        frame |= {"fl_x": matrix[0, 0], "fl_y": matrix[1, 1], "cx": matrix[0, 2], "cy": matrix[1, 2]}
        if cameras.distortion is not None:
            terms = (
                ("k1", "k2", "k3", "k4")
                if cameras.fisheye
                else ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")
            )
            frame |= dict(zip(terms, cameras.distortion[index].tolist(), strict=False))
        frames.append(frame)
    return {"camera_model": model, "w": width, "h": height, "frames": frames}


def _transform(index: int, frame: Mapping[str, Any]) -> np.ndarray:
    matrix = np.array(frame["transform_matrix"], dtype=np.float64)
    if matrix.shape == (3, 4):
        matrix = np.vstack([matrix, [0.0, 0.0, 0.0, 1.0]])
    if matrix.shape != (4, 4):
        raise ValueError(f"transform_matrix of frame {index} is {list(matrix.shape)}, it must be 4x4")
    return matrix


def _intrinsics(lens: Mapping[str, Any]) -> np.ndarray:
    if "fl_x" in lens:
        fx = float(lens["fl_x"])
    elif "camera_angle_x" in lens and "w" in lens:
        fx = 0.5 * float(lens["w"]) / np.tan(0.5 * float(lens["camera_angle_x"]))
    else:
        raise ValueError("it has neither fl_x nor camera_angle_x with w")
    if "fl_y" in lens:
        fy = float(lens["fl_y"])
    elif "camera_angle_y" in lens and "h" in lens and "fl_x" not in lens:
        fy = 0.5 * float(lens["h"]) / np.tan(0.5 * float(lens["camera_angle_y"]))
    else:
        fy = fx
    if not {"cx", "cy"} <= lens.keys() and not {"w", "h"} <= lens.keys():
        raise ValueError("it has neither cx and cy nor w and h")
    return pinhole(
        fx, fy, float(lens.get("cx", lens.get("w", 0) / 2)), float(lens.get("cy", lens.get("h", 0) / 2))
    )
