"""What stands in a "world" without a name: hills, houses and trees far away, a road, pictures, rugs."""

from __future__ import annotations

import math
import random

from recapture.datasets.scenes import world_actors as make
from recapture.datasets.scenes.layout import Texture
from recapture.datasets.scenes.wide_scenes import blend, named_colour
from recapture.datasets.scenes.words import WALL_COLOURS
from recapture.datasets.scenes.world_layout import Actor, Part
from recapture.datasets.scenes.world_looks import brick, leaves, photograph, plain, textured
from recapture.datasets.scenes.world_props import Stage


def scenery(rng: random.Random, stage: Stage, taken: list[tuple[float, float, float]]) -> list[Actor]:
    """Return actors without words; they are not placed where others (x, z, radius) are."""
    if not stage.outdoors:
        return _indoors(rng, stage)
    found = _ground(rng, stage) + _background(rng, stage)
    return [actor for actor in found if _is_clear(actor, taken)]


def _is_clear(actor: Actor, taken: list[tuple[float, float, float]]) -> bool:
    x, _, z = actor.position
    wide = max(part.size[0] for part in actor.parts)
    flat = max(part.size[1] for part in actor.parts) < 0.05  # a road
    return flat or all(math.hypot(x - a, z - b) > wide + radius for a, b, radius in taken)


def _ground(rng: random.Random, stage: Stage) -> list[Actor]:
    """Return a road and hills."""
    found, floor = [], stage.floor
    if rng.random() < 0.3:
        found.append(_road(rng, floor))
    for _ in range(rng.choice((0, 0, 1, 2))):
        wide = rng.uniform(18, 40)
        green = blend((0.28, 0.4, 0.2), (0.4, 0.38, 0.4), rng.random())
        hill = Part("ellipsoid", (wide, rng.uniform(4, 11), 15), (0, 0, 0), plain(rng, green, 0.6))
        found.append(Actor((hill,), (rng.uniform(-45, 45), floor + 0.5, rng.uniform(45, 62))))
    return found


def _background(rng: random.Random, stage: Stage) -> list[Actor]:
    """Return houses and trees far away."""
    found, floor = [], stage.floor
    for _ in range(rng.choice((0, 1, 1, 2))):
        paint = blend(named_colour(rng, rng.choice(WALL_COLOURS)), (0.9, 0.88, 0.84), rng.uniform(0.4, 0.9))
        wall = brick(rng) if rng.random() < 0.4 else plain(rng, paint)
        roof = textured(rng, "bricked", (0.5, 0.25, 0.18), (0.25, 0.14, 0.1), 3.0, 0.5)
        angle, away = rng.uniform(-0.6, 0.6), rng.uniform(14, 34)
        place = (math.sin(angle) * away, floor, math.cos(angle) * away)
        found.append(Actor(make.house(rng, wall, roof), place, heading_degrees=rng.uniform(-50, 50)))
    for _ in range(rng.choice((0, 1, 2, 3))):
        green = named_colour(rng, rng.choice(("green", "green", "lime", "brown")))
        bark = plain(rng, (0.33, 0.24, 0.17), 0.7)
        angle, away = rng.uniform(-0.7, 0.7), rng.uniform(10, 30)
        place = (math.sin(angle) * away, floor, math.cos(angle) * away)
        parts = make.tree(rng, bark, leaves(rng, blend(green, (0.3, 0.35, 0.2), 0.4)), rng.uniform(3, 6))
        found.append(Actor(parts, place, heading_degrees=rng.uniform(0, 360)))
    return found


def _road(rng: random.Random, floor: float) -> Actor:
    grey = rng.uniform(0.25, 0.4)
    asphalt = textured(rng, "speckled", (grey,) * 3, (grey * 0.8,) * 3, 9.0, 0.8)
    wide = rng.uniform(1.0, 2.0)
    if rng.random() < 0.5:  # away from the camera
        return Actor(
            (Part("box", (wide, 0.01, 60.0), (0, 0, 0), asphalt),), (rng.uniform(-1.5, 1.5), floor, 50.0)
        )
    return Actor((Part("box", (60.0, 0.01, wide), (0, 0, 0), asphalt),), (0.0, floor, rng.uniform(7, 11)))


def _indoors(rng: random.Random, stage: Stage) -> list[Actor]:
    low, high = stage.room
    found = []
    if rng.random() < 0.35:
        colour = named_colour(rng, rng.choice(WALL_COLOURS))
        pattern = rng.choice(("striped", "checkered", "waved", "plain", "dotted"))
        cloth = textured(rng, pattern, colour, blend(colour, (0.9, 0.88, 0.8), 0.5), 3.0, 0.5)
        size = (rng.uniform(0.6, 1.4), 0.008, rng.uniform(0.5, 1.2))
        place = (rng.uniform(-0.8, 0.8), stage.floor - 0.008, rng.uniform(3.0, high[2] - 1.5))
        found.append(Actor((Part("box", size, (0, 0, 0), cloth),), place))
    frame = Texture("plain", ((0.2, 0.15, 0.1),) * 2, grain=0.2)
    for _ in range(rng.choice((0, 1, 2))):
        wide, tall = rng.uniform(0.3, 0.8), rng.uniform(0.25, 0.5)
        y = rng.uniform(low[1] + 0.35 + tall, stage.floor - 1.0 - tall)
        picture = photograph(rng, None, 1 / (2 * wide))
        parts = (
            Part("box", (wide + 0.04, tall + 0.04, 0.02), (0, 0, 0), frame),
            Part("box", (wide, tall, 0.03), (0, 0, 0), picture),
        )
        if rng.random() < 0.7:
            side = high[0] - wide - 0.2
            found.append(Actor(parts, (rng.uniform(-side, side), y, high[2] - 0.03)))
        else:
            x = rng.choice((low[0] + 0.03, high[0] - 0.03))
            found.append(Actor(parts, (x, y, rng.uniform(2.5, high[2] - wide - 0.2)), heading_degrees=90.0))
    return found
