"""Held-out scenes with a still or a moving source camera, filmed from an orbit, with depth of three kinds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from bench.held_out import SURFACE
from bench.soft_depth import fitted, soften
from recapture.conf.schema import DepthConfig
from recapture.datasets.scenes.film_world import film
from recapture.datasets.scenes.held_out_worlds import PIVOT, make_world
from recapture.datasets.scenes.render import SceneFrames, render_scene, source_cameras
from recapture.datasets.scenes.sampling import sample_scene
from recapture.models.depth.edges import SharpEdges
from recapture.models.fill.view import RenderedView, SourceView
from recapture.models.geometry.rasterize import render
from recapture.models.geometry.trajectories import preset_path
from recapture.tasks.jobs.depth import DepthModel, depth_model

FAMILIES = ("wide", "outdoor", "cutout")
CAMERAS = ("still", "moving")
LEAST = 0.005  # disparity
DEPTHS = ("exact", "softened", "model")
FRAMES, SIDE, ANGLE = 17, 64, 20.0
FIRST = 700  # seeds that no training has seen
SOFTENED = 2.0  # pixels
Cameras = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class CloudCase:
    """A view with holes, its source, and the truth."""

    view: RenderedView
    source: SourceView
    truth: SceneFrames  # the exact view
    shot: SceneFrames  # the source with exact depth
    caption: str


@lru_cache(maxsize=1)
def filmed(family: str, camera: str, number: int) -> tuple[SceneFrames, Cameras, SceneFrames, Cameras, str]:
    """Return the source and its cameras, the exact view and its cameras, and a caption."""
    times = torch.arange(FRAMES, dtype=torch.float32)
    if family == "wide":
        scene = sample_scene(FIRST + number, camera_motion=camera == "moving", variety="wide")
        own = source_cameras(scene, FRAMES, SIDE, SIDE)
        shot = render_scene(scene, *own, times, SIDE, SIDE)
        third = slice(SIDE // 3, SIDE - SIDE // 3)
        target = _orbit(own, float(shot.depth[0, third, third].median()))
        truth = render_scene(scene, *target, times, SIDE, SIDE)
        return shot, own, truth, target, scene.captions[0]
    world = make_world(family, FIRST + number)  # type: ignore[arg-type]
    side = 1 if number % 2 else -1
    travel = (0.03 * side, -0.005, 0.015) if camera == "moving" else (0.0, 0.0, 0.0)
    world = replace(world, travel=travel)
    own = world.cameras(FRAMES, SIDE, SIDE)
    target = _orbit(own, float(torch.linalg.vector_norm(torch.tensor(PIVOT) - torch.tensor(world.eye))))
    shot, truth = (film(world, *cameras, times, SIDE, SIDE) for cameras in (own, target))
    return shot, own, truth, target, world.caption


def _orbit(own: Cameras, pivot: float) -> Cameras:
    path = preset_path("orbit_right", *own, pivot, angle_degrees=ANGLE, mode="direct")
    return path.intrinsics.float(), path.world_to_camera.float()


def cloud_case(family: str, camera: str, depth: str, number: int) -> CloudCase:
    """Return one case; depth: one of DEPTHS."""
    shot, own, truth, target, caption = filmed(family, camera, number)
    found = depth_of(shot, depth)
    known = torch.isfinite(found)
    seen = render(shot.video, found, *own, *target, surface=SURFACE, known=known)
    view = RenderedView(seen.video, seen.visible, seen.depth, seen.stretch, *target)
    source = SourceView(shot.video, found, known, *own, torch.arange(FRAMES))
    return CloudCase(view, source, truth, shot, caption)


def depth_of(shot: SceneFrames, kind: str) -> Tensor:
    """Return depth of a kind: exact, softened, or the embedded model's, fitted to the true one."""
    if kind == "exact":
        return shot.depth
    if kind == "softened":
        return soften(shot.depth, SOFTENED)
    model = _model()
    return SharpEdges(DepthConfig().edge_share).sharpen(
        fitted(model.estimate(shot.video), shot.depth, LEAST), shot.video
    )


@lru_cache(maxsize=1)
def _model() -> DepthModel:
    return depth_model(DepthConfig(), torch.device("cpu"))
