"""How good the renderer is, against exact co-visibility and on a real stereo pair.

    python benchmarks/render_quality.py

Analytic scene: a room with two spheres, 512x512, smooth colours that are a function of the surface point, so
that the truth of every view is exact and resampling does not dominate. Takes about half a minute.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from skimage.data import stereo_motorcycle
from torch import Tensor

from bench.splat import splat
from bench.tables import Cell, Column, Run, Table, add_write, publish, this_run
from recapture.conf.schema import RenderConfig
from recapture.datasets.scenes.assemble import make_scene
from recapture.datasets.scenes.layout import Room, Scene, SceneObject, SourceCamera
from recapture.datasets.scenes.render import co_visible, render_scene
from recapture.models.geometry.cameras import default_intrinsics, invert_rigid
from recapture.models.geometry.rasterize import Rendered, SurfaceSettings, render
from recapture.models.geometry.reproject import source_visibility
from recapture.models.geometry.trajectories import preset_path
from recapture.tasks.jobs.render import surface_settings

SIZE = 512
PIVOT = 4.2
VIEWS: dict[str, tuple[str, dict[str, Any]]] = {
    "orbit 15°": ("orbit_right", {"angle_degrees": 15.0}),
    "orbit 30°": ("orbit_right", {"angle_degrees": 30.0}),
    "orbit 45°": ("orbit_right", {"angle_degrees": 45.0}),
    "dolly-in 50 %": ("dolly_in", {"distance": 0.5}),
    "dolly-out 50 %": ("dolly_out", {"distance": 0.5}),
}


def surface(shell: float) -> SurfaceSettings:
    """Return a job's settings with another shell, and surfaces of any stretch."""
    return replace(surface_settings(RenderConfig()), shell=shell, max_stretch=None)


RENDERERS: dict[str, Callable[..., Rendered]] = {
    "point splat": splat,
    "triangles, no shell": partial(render, surface=surface(0.0)),
    "triangles, shell 0.1": partial(render, surface=surface(0.1)),
    "triangles, shell 0.2": partial(render, surface=surface(0.2)),
    "triangles, shell 0.3 (default)": partial(render, surface=surface(0.3)),
    "triangles, shell 0.4": partial(render, surface=surface(0.4)),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_write(parser, "render_quality")
    given = parser.parse_args()
    torch.manual_seed(0)
    begin, write, run = given.write or "render_quality", given.write is not None, this_run()
    for made in (views, reprojection, stereo):
        publish([made(begin, run)], write=write)


def views(begin: str, run: Run) -> Table:
    """Return every renderer's score on every view."""
    rows: list[list[Cell]] = []
    for view, (preset, amount) in VIEWS.items():
        source, target, truth = analytic_pair(preset, amount)
        rows += [[view, name, *score(draw(*source, *target), *truth)] for name, draw in RENDERERS.items()]
    columns = [Column("view"), Column("renderer"), Column("recall", ".3f"), Column("false-valid", ".4f")]
    columns += [Column("wrong among valid, %", ".3f"), Column("PSNR of valid, dB", ".1f")]
    return Table(f"{begin}-views", "Renderers against exact co-visibility", columns, rows, run)


def reprojection(begin: str, run: Run) -> Table:
    """Return how exactly double reprojection tells which source pixels a view sees."""
    rows: list[list[Cell]] = []
    for view, (preset, amount) in VIEWS.items():
        (_, depth, *cameras), target, _ = analytic_pair(preset, amount)
        intrinsics, pose = cameras
        seen = co_visible(analytic_scene(), intrinsics, pose, *target, torch.zeros(1), SIZE, SIZE)
        for name, shell in (("no shell", 0.0), ("shell 0.3 (default)", 0.3)):
            visible = source_visibility(depth, intrinsics, pose, *target, surface=surface(shell))
            rows.append([view, name, *score_visibility(visible, seen)])
    columns = [Column("view"), Column("source visibility"), Column("hole IoU", ".3f")]
    columns += [Column("leaked hidden, %", ".2f"), Column("kept visible", ".4f")]
    title = "Double reprojection against the exact answer"
    return Table(f"{begin}-reprojection", title, columns, rows, run)


def stereo(begin: str, run: Run) -> Table:
    """Return every renderer's score on a real stereo pair."""
    source, target, right = stereo_pair()
    rows: list[list[Cell]] = []
    for name, draw in RENDERERS.items():
        rendered = draw(*source, *target)
        quality = psnr(rendered.video, right, rendered.visible)
        rows.append([name, float(rendered.visible.float().mean()), quality])
    columns = [Column("renderer"), Column("coverage", ".4f"), Column("PSNR of valid, dB", ".2f")]
    title = "Middlebury's motorcycle (500x741), left view to right view"
    return Table(f"{begin}-stereo", title, columns, rows, run)


def analytic_scene() -> Scene:
    """Return a room with two spheres."""
    return make_scene(
        [
            SceneObject("sphere", (0.8, 0.0, 0.0), (-0.7, 0.3, 3.4)),
            SceneObject("sphere", (0.7, 0.0, 0.0), (0.9, 0.4, 5.0)),
        ],
        Room(low=(-12.0, -9.0, -12.0), high=(12.0, 1.2, 9.0)),
        SourceCamera(position=(0.0, 0.0, 0.0), target=(0.0, 0.0, 4.0)),
    )


def analytic_pair(
    preset: str, amount: dict[str, Any]
) -> tuple[tuple[Tensor, ...], tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Return the source (video, depth, cameras), the target cameras, and the truth (video, co-visible)."""
    scene = analytic_scene()
    intrinsics = default_intrinsics(SIZE, SIZE, 55.0)[None]
    world_to_camera = torch.eye(4)[None]
    path = preset_path(preset, intrinsics, world_to_camera, PIVOT, mode="direct", **amount)
    target = (path.intrinsics.float(), path.world_to_camera.float())
    time = torch.zeros(1)
    views = []
    for cameras in ((intrinsics, world_to_camera), target):
        seen = render_scene(scene, *cameras, time, SIZE, SIZE, antialias=1)
        views.append((smooth_colours(seen.depth, seen.object_id, *cameras), seen.depth))
    shown = co_visible(scene, *target, intrinsics, world_to_camera, time, SIZE, SIZE)
    return (*views[0], intrinsics, world_to_camera), target, (views[1][0], shown)


def smooth_colours(depth: Tensor, label: Tensor, intrinsics: Tensor, world_to_camera: Tensor) -> Tensor:
    """Colour surface points [T,H,W] by slow sines of their world position and their object's number."""
    u, v = torch.arange(SIZE) + 0.5, torch.arange(SIZE)[:, None] + 0.5
    points = (
        torch.stack([u * depth, v * depth, depth], -1).double()
        @ torch.linalg.inv(intrinsics.double()).mT[:, None]
    )
    to_world = invert_rigid(world_to_camera.double())
    world = points @ to_world[:, None, :3, :3].mT + to_world[:, None, None, :3, 3]
    phase = label.double()[..., None] * 2.1
    waves = [
        torch.sin(3.0 * world[..., i] + 1.7 * world[..., (i + 1) % 3] + phase[..., 0] * (i + 1))
        for i in range(3)
    ]
    return (0.8 * torch.stack(waves, 1)).float()


def stereo_pair() -> tuple[tuple[Tensor, ...], tuple[Tensor, Tensor], Tensor]:
    """Return Middlebury's motorcycle from scikit-image: left view with depth, right camera, right view."""
    left, right, disparity = stereo_motorcycle()
    focal, offset_x, offset_y, doffs, baseline = 994.978, 311.193, 254.877, 31.086, 0.193001
    depth = np.where(np.isfinite(disparity), focal * baseline / (disparity + doffs), 0.0)
    video, truth = (
        torch.from_numpy(view).permute(2, 0, 1)[None].float() / 127.5 - 1 for view in (left, right)
    )
    intrinsics = torch.tensor([[[focal, 0, offset_x + 0.5], [0, focal, offset_y + 0.5], [0, 0, 1]]])
    right_intrinsics = intrinsics.clone()
    right_intrinsics[:, 0, 2] += doffs
    right_camera = torch.eye(4)[None].clone()
    right_camera[:, 0, 3] = -baseline
    source = (video, torch.from_numpy(depth)[None].float(), intrinsics, torch.eye(4)[None])
    return source, (right_intrinsics, right_camera), truth


def score(rendered: Rendered, truth: Tensor, shown: Tensor) -> list[float]:
    """Return recall, false-valid, % wrong among valid (mean error over 15 % of the range), PSNR in dB."""
    valid = rendered.visible
    error = (rendered.video - truth).abs().mean(1) / 2
    holes = ~shown
    return [
        float((valid & shown).sum() / shown.sum()),
        float((valid & holes).sum() / holes.sum()),
        float(100 * (error[valid] > 0.15).float().mean()),
        psnr(rendered.video, truth, valid),
    ]


def score_visibility(visible: Tensor, seen: Tensor) -> list[float]:
    """Return the holes' IoU with the truth, % of hidden pixels kept, and the share of visible ones kept."""
    holes, hidden = ~visible, ~seen
    return [
        float((holes & hidden).sum() / (holes | hidden).sum()),
        float(100 * (visible & hidden).sum() / hidden.sum()),
        float((visible & seen).sum() / seen.sum()),
    ]


def psnr(video: Tensor, truth: Tensor, where: Tensor) -> float:
    """Return the PSNR over the pixels `where` [T, H, W]."""
    error = ((video - truth) / 2).square().mean(1)[where].mean()
    return -10 * math.log10(float(error))


if __name__ == "__main__":
    main()
