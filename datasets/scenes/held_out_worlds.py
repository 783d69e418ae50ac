"""Two families of scenes that no training of this project sees, to judge what was trained on the others.

"outdoor": hills under a sky with haze, trees, rocks, poles and people who walk. "cutout": sheets with
pickets, wires, perforations, discs, rings and blades before a backdrop, whose gaps make thin, crescent and
dotted holes. Depth and every other view are exact. The same seed gives the same world.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from recapture.datasets.scenes.paint import Look, Paint
from recapture.datasets.scenes.render import look_at
from recapture.datasets.scenes.solids import Card, Cut, Ellipsoid, Ground, Solid, Vector

Family = Literal["outdoor", "cutout"]
PIVOT = (0.0, 0.6, 5.0)  # what a camera looks at, and orbits
SKY = 150.0  # radius of the backdrop outdoors
CUTS: tuple[Cut, ...] = ("pickets", "mesh", "sieve", "confetti", "rings", "leaves")


@dataclass(frozen=True)
class World:
    """Solids, light and a camera."""

    solids: tuple[Solid, ...]
    light: Vector  # unit, towards the light
    haze: tuple[float, Vector]  # per unit of distance, and its colour
    eye: Vector
    travel: Vector  # of the camera, units per frame
    fov_degrees: float
    caption: str

    def cameras(self, frames: int, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Return its own camera: intrinsics [T, 3, 3] and world_to_camera [T, 4, 4], float32."""
        time = torch.arange(frames, dtype=torch.float64)[:, None]
        eye = torch.tensor(self.eye, dtype=torch.float64) + time * torch.tensor(
            self.travel, dtype=torch.float64
        )
        pose = look_at(eye, torch.tensor(PIVOT, dtype=torch.float64).expand_as(eye))
        focal = max(height, width) / 2 / math.tan(math.radians(self.fov_degrees) / 2)
        lens = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
        return lens.expand(frames, 3, 3).contiguous(), pose.float()


def make_world(family: Family, seed: int) -> World:
    """Return the world of a seed. Raises: ValueError for an unknown family."""
    if family not in get_args(Family):
        raise ValueError(f"family of scenes is {family!r}; use {' or '.join(get_args(Family))}")
    return _outdoor(seed) if family == "outdoor" else _cutout(seed)


def _camera(rng: random.Random) -> tuple[Vector, Vector, float]:
    eye = (rng.uniform(-0.3, 0.3), rng.uniform(-0.6, 0.1), rng.uniform(-0.3, 0.3))
    moves = rng.random() < 0.5
    travel = (rng.uniform(-0.04, 0.04), rng.uniform(-0.01, 0.01), rng.uniform(-0.02, 0.04))
    return eye, travel if moves else (0.0, 0.0, 0.0), rng.uniform(48, 66)


def _light(rng: random.Random) -> Vector:
    turn, climb = rng.uniform(-1.2, 1.2), rng.uniform(0.5, 1.1)
    return math.sin(turn) * math.cos(climb), -math.sin(climb), -math.cos(turn) * math.cos(climb)


def _shades(rng: random.Random, base: Vector, spread: float) -> tuple[Vector, Vector, Vector]:
    def shade(gain: float) -> Vector:
        red, green, blue = (max(0.0, min(1.0, gain * part + rng.uniform(-0.05, 0.05))) for part in base)
        return red, green, blue

    return shade(1 - spread), shade(1.0), shade(1 + spread)


def _paint(rng: random.Random, looks: tuple[Look, ...], base: Vector, cells: tuple[float, float]) -> Paint:
    shades = _shades(rng, base, rng.uniform(0.25, 0.6))
    return Paint(rng.choice(looks), shades, rng.uniform(*cells), rng.randrange(1 << 20))


def _around(rng: random.Random, low: float, high: float) -> tuple[float, float]:
    """Return x and z at a distance of low to high from the pivot."""
    turn, away = rng.uniform(0, 2 * math.pi), rng.uniform(low, high)
    return PIVOT[0] + away * math.sin(turn), PIVOT[2] + away * math.cos(turn)


def _outdoor(seed: int) -> World:
    rng = random.Random(f"outdoor {seed}")
    level = rng.uniform(1.4, 1.8)
    meadow = rng.choice([(0.35, 0.42, 0.16), (0.55, 0.48, 0.30), (0.80, 0.82, 0.86), (0.48, 0.34, 0.24)])
    horizon = (rng.uniform(0.72, 0.92), rng.uniform(0.76, 0.9), rng.uniform(0.8, 0.95))
    zenith = (rng.uniform(0.25, 0.5), rng.uniform(0.45, 0.62), rng.uniform(0.75, 0.95))
    middle = (PIVOT[0], PIVOT[2])
    solids: list[Solid] = [
        Ellipsoid(
            (PIVOT[0], 0.0, PIVOT[2]),
            (SKY, SKY, SKY),
            Paint("cloudy", (zenith, horizon, (0.97, 0.97, 0.97)), 2.5 / SKY, seed + 11, glows=True),
            inside=True,
        ),
        Ground(level, middle, rng.uniform(2, 6), _paint(rng, ("grassy", "veined"), meadow, (0.8, 2.0))),
    ]
    for ring, count in (((0.6, 2.6), rng.randint(2, 4)), ((8.5, 22.0), 12)):
        for _ in range(count):
            x, z = _around(rng, *ring)
            solids += _tree(rng, x, z, level, 1.0 if ring[0] < 5 else rng.uniform(1.5, 2.5))
    for _ in range(rng.randint(2, 5)):
        x, z = _around(rng, 0.4, 3.2)
        size = rng.uniform(0.15, 0.5)
        stone = _paint(rng, ("cloudy", "veined"), (0.5, 0.48, 0.46), (2, 5))
        solids.append(Ellipsoid((x, level - 0.3 * size, z), (size, 0.7 * size, size), stone))
    for _ in range(rng.randint(1, 4)):
        x, z = _around(rng, 0.5, 3.0)
        post = _paint(rng, ("bark",), (0.7, 0.65, 0.6), (2, 4))
        solids.append(Ellipsoid((x, level - 0.9, z), (0.035, 1.0, 0.035), post))
    for _ in range(rng.randint(1, 2)):
        solids += _walker(rng, level)
    eye, travel, fov = _camera(rng)
    haze = (rng.uniform(0.004, 0.02), horizon)
    words = "trees, rocks and people on a field under a cloudy sky"
    return World(tuple(solids), _light(rng), haze, eye, travel, fov, words)


def _tree(rng: random.Random, x: float, z: float, level: float, scale: float) -> list[Solid]:
    tall = scale * rng.uniform(1.0, 1.5)
    bark = _paint(rng, ("bark",), (0.36, 0.27, 0.2), (2, 4))
    leaf = _paint(rng, ("cloudy", "scales"), rng.choice([(0.2, 0.38, 0.14), (0.62, 0.4, 0.14)]), (3, 6))
    solids: list[Solid] = [
        Ellipsoid((x, level - tall / 2, z), (0.07 * scale, tall / 1.7, 0.07 * scale), bark)
    ]
    for _ in range(rng.randint(1, 3)):
        radius = scale * rng.uniform(0.3, 0.55)
        at = (x + rng.uniform(-0.3, 0.3) * scale, level - tall * rng.uniform(0.9, 1.3), z)
        solids.append(Ellipsoid(at, (radius, radius * rng.uniform(0.7, 1.5), radius), leaf))
    return solids


def _walker(rng: random.Random, level: float) -> list[Solid]:
    x, z = _around(rng, 0.3, 2.2)
    heading, speed = rng.uniform(0, 2 * math.pi), rng.uniform(0.01, 0.05)
    velocity = (speed * math.cos(heading), 0.0, speed * math.sin(heading))
    cloth = _paint(rng, ("scales", "veined", "cloudy"), (rng.random(), rng.random(), rng.random()), (4, 8))
    skin = Paint("cloudy", ((0.5, 0.36, 0.28), (0.75, 0.56, 0.45), (0.85, 0.68, 0.57)), 6.0, 3)
    trousers = _paint(rng, ("bark",), (0.2, 0.22, 0.3), (3, 5))
    parts: list[tuple[float, float, Vector, Paint]] = [
        (-0.09, 0.4, (0.075, 0.42, 0.075), trousers),
        (0.09, 0.4, (0.075, 0.42, 0.075), trousers),
        (0.0, 1.0, (0.2, 0.34, 0.13), cloth),
        (-0.23, 0.98, (0.055, 0.3, 0.055), cloth),
        (0.23, 0.98, (0.055, 0.3, 0.055), cloth),
        (0.0, 1.45, (0.11, 0.14, 0.11), skin),
    ]
    return [
        Ellipsoid((x + aside, level - up, z), radii, paint, velocity) for aside, up, radii, paint in parts
    ]


def _cutout(seed: int) -> World:
    rng = random.Random(f"cutout {seed}")
    looks: tuple[Look, ...] = ("print", "veined", "scales", "cloudy", "bark")

    def colour() -> Vector:
        return rng.uniform(0.15, 0.95), rng.uniform(0.15, 0.95), rng.uniform(0.15, 0.95)

    solids: list[Solid] = [
        Ellipsoid(
            (PIVOT[0], 0.0, PIVOT[2]), (11, 7, 11), _paint(rng, looks, colour(), (0.5, 1.3)), inside=True
        ),
        Card(
            (PIVOT[0], 1.7, PIVOT[2]), (1, 0, 0), (0, 0, 1), (9, 9), _paint(rng, looks, colour(), (0.7, 1.6))
        ),
    ]
    cuts = rng.sample(CUTS, 3)
    for number, cut in enumerate(cuts):
        turn = rng.uniform(-0.5, 0.5)
        centre = (rng.uniform(-1.3, 1.3), rng.uniform(0.2, 0.8), PIVOT[2] + (number - 1) * 1.3)
        solids.append(
            Card(
                centre,
                (math.cos(turn), 0.0, math.sin(turn)),
                (0.0, 1.0, 0.0),
                (rng.uniform(0.7, 1.3), rng.uniform(0.6, 1.0)),
                _paint(rng, looks, colour(), (1.5, 4)),
                cut,
                rng.uniform(0.25, 0.5),
                rng.uniform(0.12, 0.34),
            )
        )
    for _ in range(rng.randint(1, 3)):
        x, z = _around(rng, 0.5, 2.5)
        radius, speed = rng.uniform(0.2, 0.45), rng.uniform(-0.05, 0.05)
        ball = _paint(rng, looks, colour(), (2, 5))
        solids.append(
            Ellipsoid((x, 1.7 - radius, z), (radius, radius, radius), ball, (speed, 0.0, 0.3 * speed))
        )
    eye, travel, fov = _camera(rng)
    words = "sheets of paper with patterns cut out, and balls, before a printed backdrop"
    return World(tuple(solids), _light(rng), (0.0, (1.0, 1.0, 1.0)), eye, travel, fov, words)
