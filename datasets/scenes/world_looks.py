"""Textures of a "world": ground, walls, wood, leaves, and photographs of the gallery."""

from __future__ import annotations

import random

from recapture.datasets.scenes.layout import Texture, Vector
from recapture.datasets.scenes.photographs import COUNTS
from recapture.datasets.scenes.wide_scenes import blend, named_colour
from recapture.datasets.scenes.words import WALL_COLOURS

_BRICK, _GRASS, _GRAVEL = 5, 6, 7  # places in the gallery; grey pictures
_BRICK_TINTS: tuple[Vector, ...] = ((1.25, 0.72, 0.55), (1.2, 1.05, 0.85), (1.0, 1.0, 1.0))
_WOODS: tuple[Vector, ...] = ((0.45, 0.29, 0.17), (0.62, 0.43, 0.26), (0.78, 0.62, 0.42), (0.3, 0.2, 0.14))


def photograph(
    rng: random.Random, choice: int | None, cells: float, tint: Vector = (1.05, 1.05, 1.05)
) -> Texture:
    """Return a photograph of the gallery, `cells` of it per unit; None chooses any."""
    count = COUNTS["gallery"]
    index = rng.randrange(count) if choice is None else choice
    phase = (rng.uniform(0, 2), rng.uniform(0, 2), 5 * (index + 0.5) / count)
    return Texture("photographed", (tint, tint), cells, 0.0, rng.uniform(0.0, 0.25), phase)


def textured(
    rng: random.Random, pattern: str, first: Vector, second: Vector, cells: float, grain: float
) -> Texture:
    """Return a pattern of two colours at a random phase."""
    phase = (rng.uniform(0, 5), rng.uniform(0, 5), rng.uniform(0, 5))
    return Texture(pattern, (first, second), cells, rng.choice((0.0, 90.0)), grain, phase)


def plain(rng: random.Random, colour: Vector, grain: float = 0.25) -> Texture:
    """Return one colour with some grain."""
    return textured(rng, "plain", colour, colour, 2.0, grain)


def ground_texture(rng: random.Random, outdoors: bool) -> tuple[Texture, str]:
    """Return the texture of the ground, and what it is called (outdoors)."""
    if not outdoors:
        kind = rng.choices(("wood", "tiles", "carpet", "photograph"), (4, 3, 3, 1))[0]
        wood = rng.choice(_WOODS)
        if kind == "wood":
            return textured(
                rng, "striped", wood, blend(wood, (0, 0, 0), 0.22), rng.uniform(2.5, 6), 0.7
            ), "wood"
        if kind == "tiles":
            first = blend(named_colour(rng, rng.choice(WALL_COLOURS)), (0.9, 0.9, 0.88), rng.uniform(0.5, 1))
            second = blend(first, (0.25, 0.25, 0.28), rng.uniform(0.08, 0.8))
            return textured(rng, "checkered", first, second, rng.uniform(1.2, 3), 0.3), "tiles"
        if kind == "carpet":
            first = blend(
                named_colour(rng, rng.choice(WALL_COLOURS)), (0.6, 0.58, 0.55), rng.uniform(0.3, 0.8)
            )
            return textured(
                rng, rng.choice(("marbled", "plain")), first, blend(first, (0, 0, 0), 0.15), 2.0, 0.6
            ), ""
        return photograph(rng, None, rng.uniform(0.2, 0.5)), ""
    word = rng.choices(("grass", "gravel", "paving", "sand", "earth", "tiles"), (34, 20, 16, 10, 12, 8))[0]
    if word in ("grass", "gravel", "paving") and rng.random() < 0.65:
        choice = {"grass": _GRASS, "gravel": _GRAVEL, "paving": _BRICK}[word]
        tints = {"grass": (0.72, 1.12, 0.42), "gravel": (1.1, 1.04, 0.95), "paving": (1.15, 0.95, 0.85)}
        tint = blend(tints[word], (1.05, 1.05, 1.05), rng.uniform(0, 0.6))
        texture = photograph(rng, choice, rng.uniform(0.25, 0.7), tint)
        return Texture(texture.pattern, texture.colours, texture.cells, 0.0, 0.5, texture.phase), word
    base: dict[str, Vector] = {
        "grass": (0.36, 0.5, 0.2),
        "gravel": (0.55, 0.52, 0.48),
        "paving": (0.6, 0.58, 0.55),
        "sand": (0.82, 0.72, 0.53),
        "earth": (0.47, 0.36, 0.26),
        "tiles": (0.68, 0.64, 0.6),
    }
    first = blend(base[word], (rng.random(), rng.random(), rng.random()), 0.1)
    second = blend(first, (0.12, 0.12, 0.1), rng.uniform(0.15, 0.4))
    pattern = {"paving": "bricked", "tiles": "checkered", "gravel": "speckled"}.get(word, "marbled")
    cells = {"paving": rng.uniform(1.5, 3), "tiles": rng.uniform(0.8, 2), "gravel": 6.0}.get(word, 2.0)
    return textured(rng, pattern, first, second, cells, rng.uniform(0.5, 1.0)), word


def wall_texture(rng: random.Random) -> Texture:
    """Return the texture of walls."""
    pale = blend(named_colour(rng, rng.choice(WALL_COLOURS)), (0.93, 0.91, 0.88), rng.uniform(0.45, 0.95))
    second = blend(pale, (0.4, 0.35, 0.35), rng.uniform(0.08, 0.35))
    kind = rng.choices(
        ("plain", "striped", "dotted", "bricked", "marbled", "brick", "any"), (10, 4, 2, 2, 1, 2, 2)
    )[0]
    if kind == "brick":
        return photograph(rng, _BRICK, rng.uniform(0.35, 0.7), rng.choice(_BRICK_TINTS))
    if kind == "any":
        return photograph(rng, None, rng.uniform(0.25, 0.6))
    cells = rng.uniform(1.5, 4.0) * (2.0 if kind in ("bricked", "dotted") else 1.0)
    return textured(rng, kind, pale, second, cells, rng.uniform(0.03, 0.22))


def wood(rng: random.Random) -> Texture:
    """Return wood."""
    colour = blend(rng.choice(_WOODS), (0.9, 0.85, 0.8), rng.uniform(0, 0.2))
    return textured(rng, "marbled", colour, blend(colour, (0.1, 0.05, 0.0), 0.25), 2.0, 0.8)


def leaves(rng: random.Random, colour: Vector) -> Texture:
    """Return foliage of about this colour."""
    dark = blend(colour, (0.05, 0.1, 0.03), rng.uniform(0.25, 0.5))
    return textured(rng, rng.choice(("speckled", "marbled")), colour, dark, rng.uniform(5, 9), 1.0)


def brick(rng: random.Random) -> Texture:
    """Return a wall of bricks."""
    return photograph(rng, _BRICK, rng.uniform(0.3, 0.6), rng.choice(_BRICK_TINTS))
