"""Where a programme of MotionScenes is performed: the room, its light and camera, and the bodies at rest.

Bodies have plain, saturated colours, which nothing else in the room comes near, so that they can be found in
a generated picture without learned weights. Nothing here draws from the seeds of training scenes.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch

from recapture.datasets.scenes.layout import Kind, Lighting, Room, SourceCamera, Texture, Vector
from recapture.datasets.scenes.lenses import look_at
from recapture.datasets.scenes.wide_scenes import blend, named_colour
from recapture.datasets.scenes.words import WALL_COLOURS
from recapture.datasets.scenes.world_actors import Gait, figure
from recapture.datasets.scenes.world_layout import Part

Change = Literal["colours", "kind", "room", "place"]
CHANGES: tuple[Change, ...] = ("colours", "kind", "room", "place")  # of the targets 0, 1, 2, 3
FIRST_SEED = 9_000_000  # training draws its scenes from lower seeds
SETS = (("red", "lime", "turquoise", "violet"), ("yellow", "green", "blue", "magenta"))
NOUNS: dict[Kind, str] = {"ellipsoid": "sphere", "box": "box", "cylinder": "cylinder", "capsule": "pole"}
_PATTERNS = ("marbled", "checkered", "striped", "dotted", "bricked")
_GREY: Vector = (0.68, 0.67, 0.66)


@dataclass(frozen=True)
class Standing:
    """A body at rest."""

    kind: Kind | Literal["figure"]
    colours: tuple[str, ...]  # one; of a figure: torso with head and left arm, right arm, left leg, right leg
    place: tuple[
        float, float
    ]  # of its centre in the first picture, shares of the longer side from the middle
    depth: float
    reach: float  # half its width, or the height of a figure, in units
    slim: float = 1.0  # width of a figure
    seed: int = 0

    def parts(self) -> tuple[tuple[Part, int], ...]:
        """Return its parts around its centre, and which tracked part (from 1) each belongs to."""
        rng = random.Random(f"motion body {self.seed}")
        skins = [_plain(named_colour(rng, name)) for name in self.colours]
        if self.kind != "figure":
            size: Vector = {
                "ellipsoid": (1.0, 1.0, 1.0),
                "box": (0.85, 0.85, 0.85),
                "cylinder": (0.8, 0.95, 0.8),
                "capsule": (0.55, 0.6, 0.55),
            }[self.kind]
            size = (size[0] * self.reach, size[1] * self.reach, size[2] * self.reach)
            return ((Part(self.kind, size, (0.0, 0.0, 0.0), skins[0]), 1),)
        torso = skins[0]
        drawn = figure(rng, self.reach, torso, torso, Gait())
        tracked = (1, 1, 3, 3, 1, 1, 4, 4, 2, 2)  # torso and head; left leg, left arm, right leg, right arm
        half = self.reach / 2
        parts = []
        for part, number in zip(drawn, tracked):
            x, y, z = part.size
            size = (x * self.slim, y if part.kind == "capsule" else y * self.slim, z * self.slim)
            if part.drop or part.pivot != (0.0, 0.0, 0.0):
                part = replace(part, pivot=(part.pivot[0], part.pivot[1] + half, part.pivot[2]))
            else:
                part = replace(part, offset=(part.offset[0], part.offset[1] + half, part.offset[2]))
            parts.append((replace(part, size=size, texture=skins[number - 1]), number))
        return tuple(parts)


@dataclass(frozen=True)
class Stage:
    """A room with bodies at rest and a camera that stands still."""

    room: Room
    light: Vector
    lighting: Lighting
    camera: SourceCamera
    bodies: tuple[Standing, ...]

    def pose(self) -> np.ndarray:
        """Return world_to_camera [4, 4] of the first frame."""
        position, target = (
            torch.tensor(one, dtype=torch.float64) for one in (self.camera.position, self.camera.target)
        )
        return look_at(position, target).numpy()

    def reach(self) -> float:
        """Return the distance from the camera to the point that it looks at."""
        return math.dist(self.camera.position, self.camera.target)

    def at(self, place: np.ndarray, depth: np.ndarray) -> np.ndarray:
        """Return the points [..., 3] that the first frame shows at places [..., 2] and depths [...]."""
        side = 2 * math.tan(math.radians(self.camera.fov_degrees) / 2)
        ray = np.concatenate([place * side, np.ones((*place.shape[:-1], 1))], axis=-1)
        pose = self.pose()
        return (ray * np.asarray(depth)[..., None] - pose[:3, 3]) @ pose[:3, :3]


def reference_stage(category: str, number: int, starts: list[tuple[float, float]]) -> Stage:
    """Return the stage of a reference, whose bodies start at these places."""
    rng = random.Random(f"motion {seed_of(category, number, None)}")
    fov = rng.uniform(50, 58)
    room, light, lighting, camera = _surroundings(rng, fov)
    depth = rng.uniform(3.9, 4.4)
    whole = 2 * math.tan(math.radians(fov) / 2) * depth  # units that the picture's longer side shows
    colours = SETS[number % 2]
    bodies = []
    for index, place in enumerate(starts):
        if category == "figure":
            bodies.append(
                Standing("figure", colours, place, depth, 0.56 * whole, 1.0, rng.randrange(1 << 30))
            )
            continue
        kind: Kind = ("ellipsoid", "box", "cylinder")[(number + index) % 3]
        share = {1: 0.115, 2: 0.095}.get(len(starts), 0.08)
        away = depth * rng.uniform(0.97, 1.03)
        bodies.append(
            Standing(
                kind,
                (colours[(index + number) % 4],),
                place,
                away,
                share * whole,
                1.0,
                rng.randrange(1 << 30),
            )
        )
    return Stage(room, light, lighting, camera, tuple(bodies))


def target_stage(stage: Stage, category: str, number: int, target: int) -> Stage:
    """Return the stage of a target: its bodies have other colours, and one more thing is different."""
    rng = random.Random(f"motion {seed_of(category, number, target)}")
    colours = SETS[1 - number % 2]
    change = CHANGES[target]
    shift = rng.choice((-1, 1)) * rng.uniform(0.05, 0.08), rng.uniform(-0.03, 0.03)
    bodies = []
    for index, body in enumerate(stage.bodies):
        names = tuple(colours[(index + target + part) % 4] for part in range(4))
        body = replace(body, colours=names if body.kind == "figure" else names[:1])
        if change == "kind":
            body = _another_kind(rng, body)
        if change == "place":
            place = body.place[0] + shift[0], body.place[1] + shift[1]
            body = replace(body, place=place, depth=body.depth * 1.2)
        bodies.append(body)
    stage = replace(stage, bodies=tuple(bodies))
    if change == "room":
        fov = stage.camera.fov_degrees + rng.choice((-6, 6))
        room, light, lighting, camera = _surroundings(rng, fov)
        stage = replace(stage, room=room, light=light, lighting=lighting, camera=camera)
    return stage


def seed_of(category: str, number: int, target: int | None) -> int:
    """Return the seed of a stage."""
    place = {"camera": 0, "single": 1, "multiple": 2, "figure": 3}[category]
    return FIRST_SEED + (place * 100 + number) * 10 + (0 if target is None else 1 + target)


def _another_kind(rng: random.Random, body: Standing) -> Standing:
    if body.kind == "figure":
        return replace(body, slim=1.55, reach=0.82 * body.reach)
    kinds: list[Kind] = [kind for kind in NOUNS if kind != body.kind]
    return replace(body, kind=rng.choice(kinds))


def _plain(colour: Vector) -> Texture:
    return Texture("plain", (colour, colour), grain=0.08)


def _surroundings(rng: random.Random, fov: float) -> tuple[Room, Vector, Lighting, SourceCamera]:
    textures = []
    for name in rng.sample(WALL_COLOURS, 6):
        base = blend(named_colour(rng, name), _GREY, rng.uniform(0.72, 0.85))
        dark = blend(base, (0.4, 0.4, 0.4), rng.uniform(0.35, 0.6))
        phase = rng.uniform(0, 5), rng.uniform(0, 5), rng.uniform(0, 5)
        cells, grain = rng.uniform(0.8, 1.6), rng.uniform(0.4, 0.8)
        textures.append(Texture(rng.choice(_PATTERNS), (base, dark), cells, 0.0, grain, phase))
    side, floor = rng.uniform(4.0, 4.8), rng.uniform(1.5, 1.8)
    room = Room((-side, -3.0, -3.6), (side, floor, rng.uniform(6.4, 7.4)), tuple(textures))
    turn = rng.uniform(-0.8, 0.8)
    light = (math.sin(turn), -1.1, -math.cos(turn))
    warm = rng.gauss(0, 0.03)
    lighting = Lighting(rng.uniform(0.62, 0.75), 0.34, (1 + warm, 1.0, 1 - warm))
    camera = SourceCamera(
        (rng.uniform(-0.3, 0.3), rng.uniform(-0.4, -0.1), rng.uniform(-0.2, 0.2)),
        (rng.uniform(-0.2, 0.2), rng.uniform(0.1, 0.3), 4.2),
        fov_degrees=fov,
    )
    return room, light, lighting, camera
