"""The named actors of a "world" that stand or walk: which there are, how they look and what they do."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from recapture.datasets.scenes import world_actors as make
from recapture.datasets.scenes.layout import Texture, Vector
from recapture.datasets.scenes.wide_scenes import named_colour
from recapture.datasets.scenes.world_layout import CameraPath, Part
from recapture.datasets.scenes.world_looks import leaves, photograph, plain, textured, wood

OUTDOORS = {
    "figure": 30,
    "animal": 10,
    "car": 12,
    "tree": 12,
    "bush": 5,
    "rock": 4,
    "fence": 8,
    "lamppost": 6,
    "line": 4,
    "body": 16,
    "chair": 3,
    "table": 3,
    "house": 4,
}
INDOORS = {
    "figure": 22,
    "animal": 5,
    "table": 14,
    "chair": 14,
    "shelf": 9,
    "sofa": 8,
    "lamp": 9,
    "plant": 9,
    "body": 18,
}

NEAREST = 3.2  # z of actors before a camera that does not move forward


@dataclass(frozen=True)
class Stage:
    """Where actors may be: outdoors or in a room, before a camera that moves along a path."""

    outdoors: bool
    floor: float
    room: tuple[Vector, Vector]
    path: CameraPath
    fov_degrees: float

    @property
    def nearest(self) -> float:
        """Return the smallest z of actors: the camera does not run into them."""
        return NEAREST + (self.path.limit if self.path.velocity[2] > 0 else 0.0)


@dataclass(frozen=True)
class Drawn:
    """An actor's parts, the radius around its root, what it looks like, is and does."""

    parts: tuple[Part, ...]
    radius: float
    looks: str
    noun: str
    speed: float = 0.0
    doing: str = "standing"


def _two(rng: random.Random, names: list[str]) -> tuple[str, str]:
    """Return two colour names, the same one twice in half of the draws."""
    first = names.pop(0)
    return first, first if rng.random() < 0.5 else names[0]


def _named(first: str, second: str) -> str:
    return first if first == second else f"{first} and {second}"


def _paint(rng: random.Random, name: str, grain: float = 0.25) -> Texture:
    return plain(rng, named_colour(rng, name), grain)


def _figure(rng: random.Random, stage: Stage, names: list[str]) -> Drawn:
    height = rng.uniform(1.15, 1.75)
    shirt, trousers = _two(rng, names)
    walks = rng.random() < 0.75
    speed = height * rng.uniform(0.014, 0.032) if walks else 0.0
    walk = make.gait(speed, 0.45 * height, rng) if walks else make.Gait(phase=rng.random())
    waves = not walks and rng.random() < 0.6
    cloth = _paint(rng, shirt)
    looks = _named(shirt, trousers)
    if shirt != trousers and rng.random() < 0.3:
        pattern = rng.choice(("striped", "dotted", "checkered"))
        colours = named_colour(rng, shirt), named_colour(rng, trousers)
        cloth = textured(rng, pattern, *colours, rng.uniform(6, 12), 0.2)
        looks += f" {pattern}"
    parts = make.figure(rng, height, cloth, _paint(rng, trousers), walk, waves)
    radius = 0.4 if stage.outdoors or not walks else rng.uniform(0.8, 1.2)
    return Drawn(parts, radius, looks, "figure", speed, "waving" if waves else "standing")


def _animal(rng: random.Random, stage: Stage, names: list[str]) -> Drawn:
    name, height = names.pop(0), rng.uniform(0.5, 0.95)
    walks = rng.random() < 0.8
    speed = height * rng.uniform(0.02, 0.045) if walks else 0.0
    walk = make.gait(speed, 0.6 * height, rng) if walks else make.Gait(phase=rng.random())
    parts = make.animal(rng, height, _paint(rng, name, 0.6), walk)
    radius = 0.9 * height if stage.outdoors or not walks else rng.uniform(0.9, 1.2)
    return Drawn(parts, radius, name, "animal", speed)


def _car(rng: random.Random, stage: Stage, names: list[str]) -> Drawn:
    name = names.pop(0)
    glass = plain(rng, (0.12, 0.14, 0.17), 0.05)
    drives = rng.random() < 0.7
    parts = make.car(rng, _paint(rng, name, 0.05), glass)
    return Drawn(parts, 1.3, name, "car", rng.uniform(0.03, 0.12) if drives else 0.0)


def _wooden(rng: random.Random, names: list[str]) -> tuple[Texture, str]:
    """Return wood, called brown, or paint."""
    if rng.random() < 0.4 and "brown" in names:
        names.remove("brown")
        return _paint(rng, "brown", 0.7), "brown"
    name = names.pop(0)
    return _paint(rng, name, 0.3), name


def _table(rng: random.Random, stage: Stage, names: list[str]) -> Drawn:
    look, name = _wooden(rng, names)
    return Drawn(make.table(rng, look), 1.0, name, "table")


def _chair(rng: random.Random, stage: Stage, names: list[str]) -> Drawn:
    look, name = _wooden(rng, names)
    return Drawn(make.chair(rng, look), 0.45, name, "chair")


def _shelf(rng: random.Random, stage: Stage, names: list[str]) -> Drawn:
    look, name = _wooden(rng, names)
    content = photograph(rng, None, rng.uniform(0.8, 1.5)) if rng.random() < 0.5 else wood(rng)
    return Drawn(make.shelf(rng, look, content), 0.7, name, "shelf")


def _sofa(rng: random.Random, stage: Stage, names: list[str]) -> Drawn:
    name = names.pop(0)
    return Drawn(make.sofa(rng, _paint(rng, name, 0.4)), 1.0, name, "sofa")


def _lamp(rng: random.Random, stage: Stage, names: list[str]) -> Drawn:
    name = names.pop(0)
    look = _paint(rng, name, 0.1)
    return Drawn(make.lamp(rng, look, look, rng.uniform(1.0, 1.6)), 0.3, name, "lamp")


def _lamppost(rng: random.Random, stage: Stage, names: list[str]) -> Drawn:
    name = names.pop(0)
    return Drawn(make.lamppost(rng, _paint(rng, name, 0.1), rng.uniform(2.0, 3.4)), 0.3, name, "lamppost")


def _tree(rng: random.Random, stage: Stage, names: list[str]) -> Drawn:
    name = rng.choice(("green", "lime", "orange", "yellow", "red"))
    bark = plain(rng, named_colour(rng, "brown"), 0.8)
    parts = make.tree(rng, bark, leaves(rng, named_colour(rng, name)), rng.uniform(2.2, 4.2))
    return Drawn(parts, 0.9, f"{name} and brown", "tree", doing="swaying in the wind")


def _plant(rng: random.Random, stage: Stage, names: list[str]) -> Drawn:
    name, green = names.pop(0), rng.choice(("green", "lime"))
    parts = make.plant(rng, _paint(rng, name, 0.2), _paint(rng, green, 0.5), rng.uniform(0.7, 1.4))
    return Drawn(
        parts, 0.45, f"{green} and {name}" if green != name else name, "plant", doing="swaying in the wind"
    )


def _fence(rng: random.Random, stage: Stage, names: list[str]) -> Drawn:
    look, name = _wooden(rng, names)
    return Drawn(make.fence(rng, look), 1.0, name, "fence")


def _line(rng: random.Random, stage: Stage, names: list[str]) -> Drawn:
    name = names.pop(0)
    return Drawn(make.line(rng, _paint(rng, name, 0.2)), 1.2, name, "line")


def _bush(rng: random.Random, stage: Stage, names: list[str]) -> Drawn:
    name = rng.choice(("green", "lime", "pink", "yellow"))
    return Drawn(make.bush(rng, leaves(rng, named_colour(rng, name))), 0.7, name, "bush")


def _rock(rng: random.Random, stage: Stage, names: list[str]) -> Drawn:
    name = rng.choice(("white", "black", "brown"))
    return Drawn(make.bush(rng, _paint(rng, name, 1.0)), 0.7, name, "rock")


def _house(rng: random.Random, stage: Stage, names: list[str]) -> Drawn:
    name, other = names.pop(0), names.pop(0)
    parts = make.house(rng, _paint(rng, name, 0.4), _paint(rng, other, 0.5))
    return Drawn(parts, 4.0, f"{name} and {other}", "house")


DRAWERS: dict[str, Callable[[random.Random, Stage, list[str]], Drawn]] = {
    "figure": _figure,
    "animal": _animal,
    "car": _car,
    "table": _table,
    "chair": _chair,
    "shelf": _shelf,
    "sofa": _sofa,
    "lamp": _lamp,
    "lamppost": _lamppost,
    "tree": _tree,
    "plant": _plant,
    "fence": _fence,
    "line": _line,
    "bush": _bush,
    "rock": _rock,
    "house": _house,
}
