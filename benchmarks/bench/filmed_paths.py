"""Clips of procedural scenes along camera paths as people film them, with exact depth and cameras."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.transform import Rotation

from recapture.datasets.scenes.film_world import film
from recapture.datasets.scenes.held_out_worlds import World, make_world
from recapture.datasets.scenes.layout import Scene
from recapture.datasets.scenes.paint import Paint
from recapture.datasets.scenes.render import render_scene, source_cameras
from recapture.datasets.scenes.sampling import sample_scene
from recapture.datasets.scenes.solids import Ellipsoid

MOTIONS = ("hand-held", "driving", "panning", "zooming", "arc", "still")
FAMILIES = ("wide", "world")
CHUNK = 9
BODY = 0.62  # radius: 55 to 70 % of the picture


@dataclass(frozen=True)
class Clip:
    """A clip with its true cameras."""

    name: str
    rgb: np.ndarray  # [T, H, W, 3] uint8
    depth: np.ndarray  # [T, H, W]
    intrinsics: np.ndarray  # [T, 3, 3]
    world_to_camera: np.ndarray  # [T, 4, 4]
    film: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]  # cameras -> rgb, depth


def shot(
    motion: str, frames: int, seed: int, size: tuple[int, int], family: str, *, body: bool = False
) -> Clip:
    """Film a scene of a family along a motion; body: before a body over more than half of the picture."""
    height, width = size
    world: World | Scene
    if body:
        world = make_world("cutout", seed)
        lens, first = world.cameras(1, height, width)
    else:
        world = sample_scene(seed, False, variety=family)  # type: ignore[arg-type]
        lens, first = source_cameras(world, 1, height, width)
    start = np.linalg.inv(first[0].double().numpy())
    to_world, zoom = path(motion, frames, seed)
    if body:
        assert isinstance(world, World)
        world = replace(world, solids=(*world.solids, _body(start, seed)))
    pose = np.linalg.inv(start @ to_world)
    matrices = lens.double().numpy().repeat(frames, 0)
    matrices[:, [0, 1], [0, 1]] *= zoom[:, None]
    filmed = partial(_film, world, size)
    rgb, depth = filmed(matrices, pose)
    return Clip(f"{motion}, {'body' if body else family} {seed}", rgb, depth, matrices, pose, filmed)


def _film(
    world: World | Scene, size: tuple[int, int], intrinsics: np.ndarray, world_to_camera: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return rgb uint8 [T,H,W,3] and depth [T,H,W] of a world, frame t at time t."""
    lens, pose = torch.from_numpy(intrinsics).float(), torch.from_numpy(world_to_camera).float()
    pictures, depths = [], []
    for at in torch.arange(len(lens)).split(CHUNK):
        given = (lens[at], pose[at], at.float(), *size, 1)
        seen = film(world, *given) if isinstance(world, World) else render_scene(world, *given)
        pictures.append(((seen.video.movedim(1, -1).numpy() + 1) * 127.5).round().clip(0, 255).astype("u1"))
        depths.append(seen.depth.numpy())
    return np.concatenate(pictures), np.concatenate(depths)


def path(motion: str, frames: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return camera_to_world [T,4,4] from the first camera on, and the factor [T] of its focal length."""
    rng, t = np.random.default_rng([seed, 7]), np.arange(frames)
    place, turn, zoom = np.zeros((frames, 3)), np.zeros((frames, 3)), np.ones(frames)
    if motion == "hand-held":
        place = _sway(rng, frames, 12, 0.25) + _sway(rng, frames, 2, 0.01)
        turn = _sway(rng, frames, 8, 4.0) * [1, 1, 0.4] + _sway(rng, frames, 1.5, 0.2)
    elif motion == "driving":
        ahead = rng.uniform(0.01, 0.025) * np.minimum(t, 100)
        place = np.stack([0.15 * np.sin(t / 40), 0.01 * np.sin(t / 5), ahead], 1)
        turn = np.stack([0.2 * np.sin(t / 6), 4 * np.sin(t / 50), 0 * t], 1)
    elif motion == "panning":
        turn = np.stack([2 * np.sin(t / 30), 25 * np.sin(t / 60), 0 * t], 1)
    elif motion == "zooming":
        zoom = np.exp(0.5 * np.sin(t / 60))
        turn = _sway(rng, frames, 10, 1.0)
    elif motion == "arc":
        angle = np.radians(20 * np.sin(t / 50))
        place = np.stack([5 * np.sin(angle), 0 * t, 5 - 5 * np.cos(angle)], 1)
        turn = np.stack([0 * t, -np.degrees(angle), 0 * t], 1)
    pose = np.tile(np.eye(4), (frames, 1, 1))
    pose[:, :3, :3] = Rotation.from_euler("xyz", turn, degrees=True).as_matrix()
    pose[:, :3, 3] = place
    return pose, zoom


def _sway(rng: np.random.Generator, frames: int, slow: float, most: float) -> np.ndarray:
    wave = gaussian_filter1d(rng.normal(size=(frames + 200, 3)), slow, axis=0)[100 : 100 + frames]
    wave = wave - wave[0]
    return np.asarray(most * min(1.0, frames / 40) * wave / max(float(np.abs(wave).max()), 1e-9))


def _body(start: np.ndarray, seed: int) -> Ellipsoid:
    rng = np.random.default_rng([seed, 8])
    middle = start[:3, 3] + 1.5 * start[:3, 2]
    speed = rng.uniform(-1, 1, 3) * [0.012, 0.003, 0.004]
    paint = Paint("scales", ((0.2, 0.3, 0.6), (0.7, 0.3, 0.3), (0.9, 0.8, 0.6)), 5.0, seed)
    x, y, z = (float(value) for value in middle)
    dx, dy, dz = (float(value) for value in speed)
    return Ellipsoid((x, y, z), (BODY, 0.85 * BODY, 0.5 * BODY), paint, (dx, dy, dz))
