"""The static cloud at real size: CPU seconds and memory, on a street that is made by formula."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor

from bench.held_out import SURFACE
from bench.tables import Cell, Column, Run, Table
from recapture.models.fill.propagate import propagate_static, static_clouds, static_pixels
from recapture.models.fill.view import RenderedView, SourceView
from recapture.models.geometry.cameras import default_intrinsics
from recapture.models.geometry.rasterize import render
from recapture.models.geometry.static_cloud import key_frames
from recapture.models.geometry.trajectories import preset_path

SIZE, FRAMES = (480, 832), 81
ANGLE, PIVOT = 20.0, 6.0
SHOWN = 2  # frames of the view that are measured; the rest cost the same
T = TypeVar("T")


def cost_table(name: str, run: Run) -> Table:
    """Return what a clip costs, camera still and moving."""
    columns = [Column("frames", "d"), Column("camera"), Column("points", "d"), Column("cloud, MB", ".0f")]
    columns += [Column("to gather, CPU s", ".1f"), Column("per frame of the view, CPU s", ".2f")]
    columns += [Column("whole clip, CPU s", ".0f"), Column("by frames, whole clip, CPU s", ".0f")]
    rows: list[list[Cell]] = []
    for camera, speed in (("still", 0.0), ("moving", 0.01)):
        rows.append(_row(FRAMES, camera, speed))
        print(rows[-1], flush=True)
    return Table(name, "480x832, orbit of 20°", columns, rows, run)


def _row(count: int, camera: str, speed: float) -> list[Cell]:
    keys = key_frames(torch.zeros(count, dtype=torch.int64))[0]
    clouds, gather = _timed(lambda: static_clouds(street(keys, speed), SURFACE))
    cloud = clouds[0]
    middle = torch.arange(count // 2, count // 2 + SHOWN)
    around = torch.arange(count // 2 - 12, count // 2 + SHOWN + 12)
    source = street(around, speed)
    shown = source.at(middle - around[0])
    path = preset_path(
        "orbit_right", source.intrinsics, source.world_to_camera, PIVOT, angle_degrees=ANGLE, mode="direct"
    )
    target = tuple(part[middle - around[0]].float() for part in (path.intrinsics, path.world_to_camera))
    made = render(shown.video, shown.depth, shown.intrinsics, shown.world_to_camera, *target, surface=SURFACE)
    view = RenderedView(made.video, made.visible, made.depth, made.stretch, *target)
    known = replace(source, source_frame=middle - around[0], clouds=clouds)
    bare = _timed(lambda: propagate_static(view, None, surface=SURFACE))[1]
    each = (_timed(lambda: propagate_static(view, known, surface=SURFACE))[1] - bare) / SHOWN
    frames = torch.arange(len(source.video))
    static = _timed(lambda: static_pixels(source, frames))[1]
    by_frames = _timed(lambda: propagate_static(view, known, surface=SURFACE, by="frames"))[1] - bare - static
    by_frames = by_frames / SHOWN + static / len(frames)
    size = sum(part.numel() * part.element_size() for part in (cloud.place, cloud.colour, cloud.size)) / 1e6
    return [count, camera, len(cloud.place), size, gather, each, gather + each * count, by_frames * count]


def street(frames: Tensor, speed: float) -> SourceView:
    """Return frames of a wall and a ground before which a card crosses; speed: of the camera, per frame."""
    height, width = SIZE
    lens = default_intrinsics(height, width, 60.0)
    v, u = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    right, down = (u - lens[0, 2]) / lens[0, 0], (v - lens[1, 2]) / lens[1, 1]
    videos, depths, poses = [], [], []
    for frame in frames.tolist():
        eye = speed * frame
        wall = torch.full_like(u, 9.0)
        depth = torch.where(down > 1e-3, torch.minimum(wall, 1.5 / down.clamp_min(1e-3)), wall)
        x, y = right * depth + eye, down * depth + depth
        shade = torch.stack([torch.sin(3 * x + n) * torch.cos(2 * y - n) for n in range(3)]) * 0.7
        middle = -3 + 6 * ((frame * 0.02) % 1)
        card = (((right * 4 + eye - middle).abs() < 0.7) & ((down * 4 - 0.4).abs() < 1)).float()
        depths.append(torch.where(card > 0, 4.0, depth))
        videos.append(
            torch.lerp(shade, torch.tensor([0.9, -0.6, -0.8])[:, None, None].expand_as(shade), card)
        )
        pose = torch.eye(4)
        pose[0, 3] = -eye
        poses.append(pose)
    depth = torch.stack(depths)
    known = torch.ones_like(depth, dtype=torch.bool)
    count = len(frames)
    cameras = lens.expand(count, 3, 3), torch.stack(poses)
    return SourceView(torch.stack(videos), depth, known, *cameras, torch.arange(count))


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    start = time.process_time()
    return work(), time.process_time() - start
