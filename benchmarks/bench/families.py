"""Families of test scenes: the project's own rooms, two that no training sees, and holes of other shapes."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from bench.held_out import FRAMES, SIDE, SURFACE, held_out
from recapture.datasets.scenes.film_world import film
from recapture.datasets.scenes.held_out_worlds import PIVOT, World, make_world
from recapture.datasets.scenes.render import SceneFrames
from recapture.models.fill.view import RenderedView, SourceView, hide
from recapture.models.geometry.rasterize import render
from recapture.models.geometry.trajectories import preset_path

ROOMS = {"classic": 9, "wide": 0}  # and the first seed; classic 9 to 11 are the scenes of `make demo`
WORLDS = ("outdoor", "cutout")
MOVED = (*ROOMS, *WORLDS)  # seen from an orbit
HOLES = ("thin", "crescent", "dotted")  # seen from their own camera, behind holes that move
Mask = list[tuple[float, ...]]


@dataclass(frozen=True)
class Case:
    """A view with holes, what it was made of, and the truth."""

    view: RenderedView
    source: SourceView
    truth: Tensor  # [T, 3, H, W]
    inside: Tensor  # [T, H, W] bool, where the truth is known
    caption: str


def case(family: str, angle: float, number: int) -> Case:
    """Return one case of a family; angle: of the orbit to the right, in every frame; 0 for HOLES."""
    if family in ROOMS:
        return Case(*held_out(ROOMS[family] + number, family, angle))  # type: ignore[arg-type]
    if family in HOLES:
        return _behind_holes(family, number)
    world, shot, cameras = _filmed(family, number)
    pivot = float(torch.linalg.vector_norm(torch.tensor(PIVOT) - torch.tensor(world.eye)))
    path = preset_path("orbit_right", *cameras, pivot, angle_degrees=angle, mode="direct")
    target = path.intrinsics.float(), path.world_to_camera.float()
    truth = film(world, *target, torch.arange(FRAMES), SIDE, SIDE)
    seen = render(shot.video, shot.depth, *cameras, *target, surface=SURFACE)
    view = RenderedView(seen.video, seen.visible, seen.depth, seen.stretch, *target)
    return Case(view, _source(shot, cameras), truth.video, torch.ones_like(seen.visible), world.caption)


@lru_cache(maxsize=2)
def _filmed(family: str, number: int) -> tuple[World, SceneFrames, tuple[Tensor, Tensor]]:
    world = make_world(family, number)  # type: ignore[arg-type]
    cameras = world.cameras(FRAMES, SIDE, SIDE)
    return world, film(world, *cameras, torch.arange(FRAMES), SIDE, SIDE), cameras


def _source(shot: SceneFrames, cameras: tuple[Tensor, Tensor]) -> SourceView:
    known = torch.isfinite(shot.depth)
    return SourceView(shot.video, shot.depth, known, *cameras, torch.arange(FRAMES))


def _behind_holes(shape: str, number: int) -> Case:
    """Return a world from its own camera, where holes of one shape hide what no other frame shows either."""
    world, shot, cameras = _filmed(WORLDS[number % 2], number)
    hole = holes(shape, number)
    whole = RenderedView(shot.video, torch.ones_like(hole), shot.depth, torch.ones_like(shot.depth), *cameras)
    source = _source(shot, cameras)
    never = SourceView(source.video, source.depth, source.known & ~hole.any(0), *cameras, source.source_frame)
    return Case(hide(whole, hole), never, shot.video, torch.ones_like(hole), world.caption)


def holes(shape: str, seed: int) -> Tensor:
    """Return [FRAMES, SIDE, SIDE] bool: lines of 1 to 4 pixels, crescents or dots, which drift slowly."""
    rng = random.Random(f"{shape} {seed}")
    y, x = torch.meshgrid(torch.arange(SIDE) + 0.5, torch.arange(SIDE) + 0.5, indexing="ij")
    drift = rng.uniform(-0.5, 0.5), rng.uniform(-0.3, 0.3)
    frames = []
    if shape == "dotted":
        pitch, radius, turn = rng.uniform(9, 15), rng.uniform(1.2, 3), rng.uniform(0, math.pi)
    marks = [
        (rng.uniform(0, SIDE), rng.uniform(0, SIDE), rng.uniform(0, math.pi), rng.random()) for _ in range(12)
    ]
    for t in range(FRAMES):
        u, v = x - t * drift[0], y - t * drift[1]
        hole = torch.zeros(SIDE, SIDE, dtype=torch.bool)
        if shape == "dotted":
            a, b = u * math.cos(turn) + v * math.sin(turn), v * math.cos(turn) - u * math.sin(turn)
            away = (torch.remainder(a, pitch) - pitch / 2).square()
            hole = (away + (torch.remainder(b, pitch) - pitch / 2).square()).sqrt() < radius
        for row, column, angle, size in marks if shape != "dotted" else ():
            if shape == "thin":
                across = (u - column) * math.sin(angle) - (v - row) * math.cos(angle)
                along = (u - column) * math.cos(angle) + (v - row) * math.sin(angle)
                hole |= (across.abs() < 0.5 + 1.5 * size) & (along.abs() < 15 + 40 * size)
            else:
                radius, offset = 7 + 14 * size, 2 + 4 * size
                disc = ((u - column).square() + (v - row).square()).sqrt() < radius
                beside = u - column - offset * math.cos(angle), v - row - offset * math.sin(angle)
                hole |= disc & ((beside[0].square() + beside[1].square()).sqrt() >= radius)
        frames.append(hole)
    return torch.stack(frames)
