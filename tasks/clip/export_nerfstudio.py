"""Write a view of a clip as a nerfstudio dataset: transforms.json, pictures, depth, masks, initial points."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np

from recapture.datasets.cameras.cameras import write_bytes
from recapture.datasets.cameras.nerfstudio import FILE, nerfstudio_fields
from recapture.datasets.media.picture_files import png_file
from recapture.datasets.media.ply import ply_file
from recapture.tasks.clip.exported_view import ExportedView, ShownFrame

MOST = 65535  # of 16 bits
USUAL = 1e-3  # nerfstudio's default: millimetres of metres
MOST_POINTS = 200_000  # that training begins with
STEPS = 1000  # of depth up to the pivot, at least


@dataclass(frozen=True)
class Written:
    """What was written of a view: its unit of depth, points, and the share of known depth that is too far."""

    depth_unit: float
    points: int
    too_far: float


def write_nerfstudio_view(
    folder: str,
    view: ExportedView,
    comments: Sequence[str],
    *,
    pivot_depth: float,
    every: int = 1,
) -> Written:
    """Write every n-th frame of a view; transforms.json comes last.

    pivot_depth: depth that has at least STEPS units. Initial points are those of a grid of pixels of all
    these frames, so that there are about MOST_POINTS at most.
    Raises ValueError if the frames have no common world.
    """
    numbers = view.numbers(every)
    groups = sorted(set(view.pose_group[numbers].tolist()))
    if len(groups) > 1:
        raise ValueError(
            f"the poses of its frames are not related ({len(groups)} groups), and nerfstudio needs one "
            "world; give its cameras, set cameras.source to estimate, or export ply"
        )
    unit = depth_unit(max((float(frame.depth.max()) for frame in view.frames(every)), default=0), pivot_depth)
    stride = max(1, math.ceil(math.sqrt(len(numbers) * view.size[0] * view.size[1] / MOST_POINTS)))
    points, known, lost = list[tuple[np.ndarray, np.ndarray]](), 0, 0
    for frame in view.frames(every):
        depth = depth_steps(frame.depth, unit)
        _write_pictures(folder, view, frame, depth)
        found, colours = view.points(frame, stride)
        points.append((found.astype(np.float32), colours))
        known += int(frame.known.sum())
        lost += int((frame.known & (depth == 0)).sum())
    cloud, colours = (np.concatenate(part) for part in zip(*points))
    write_bytes(f"{folder}/points.ply", ply_file(cloud, colours, comments))
    write_bytes(f"{folder}/{FILE}", json.dumps(_fields(folder, view, numbers, unit)).encode())
    return Written(unit, len(cloud), lost / max(1, known))


def depth_unit(farthest: float, pivot_depth: float) -> float:
    """Return the unit of 16-bit depth, in scene units: nerfstudio's default where that does, else the best.

    It does if nothing is beyond its range and the pivot has at least STEPS units. Else the whole range is
    used; if that would be too coarse at the pivot, the pivot has STEPS units and what is too far is lost.
    """
    finest = pivot_depth / STEPS
    if farthest <= MOST * USUAL and finest >= USUAL:
        return USUAL
    return min(max(farthest, 1e-12) / MOST, finest)


def depth_steps(depth: np.ndarray, unit: float) -> np.ndarray:
    """Return depth [H,W] in units as uint16: 0 where it is unknown (0) or too far."""
    steps = np.rint(depth.astype(np.float64) / unit)
    near = (depth > 0) & (steps < 1)
    return np.where(steps > MOST, 0, np.where(near, 1, steps)).astype(np.uint16)


def _write_pictures(folder: str, view: ExportedView, frame: ShownFrame, depth: np.ndarray) -> None:
    name = f"frame_{frame.number:05d}.png"
    write_bytes(f"{folder}/images/{name}", png_file(frame.rgb))
    write_bytes(f"{folder}/depths/{name}", _grey(depth))
    if not view.complete:
        write_bytes(f"{folder}/masks/{name}", _grey(frame.known.astype(np.uint8) * 255))


def _grey(pixels: np.ndarray) -> bytes:
    return bytes(cv2.imencode(".png", pixels)[1])


def _fields(folder: str, view: ExportedView, numbers: np.ndarray, unit: float) -> dict[str, Any]:
    names = [f"frame_{number:05d}.png" for number in numbers]
    cameras = view.cameras()
    picked = replace(
        cameras,
        world_to_camera=view.world_to_camera[numbers],
        intrinsics=view.intrinsics[numbers],
        names=tuple(f"images/{name}" for name in names),
    )
    fields = nerfstudio_fields(f"{folder}/{FILE}", picked)
    last = max(1, view.clip_frames - 1)
    for frame, name, number in zip(fields["frames"], names, numbers):
        frame["depth_file_path"] = f"depths/{name}"
        if not view.complete:
            frame["mask_path"] = f"masks/{name}"
        frame["time"] = float(view.source_frame[number] / last)  # 0...1, as D-NeRF has it
    return fields | {"ply_file_path": "points.ply", "depth_unit_scale_factor": unit, "fps": str(view.fps)}
