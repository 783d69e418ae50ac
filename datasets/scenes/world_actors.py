"""Actors of a "world": figures and animals that walk, furniture, plants, vehicles, fences.

Every function returns an actor's parts around a root on the ground, facing +z; up is -y. Limbs meet at their
joints by construction: a lower limb starts where the upper one ends.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace

from recapture.datasets.scenes.layout import Texture, Vector
from recapture.datasets.scenes.world_layout import Part

_SKIN = ((0.95, 0.76, 0.62), (0.82, 0.60, 0.45), (0.55, 0.37, 0.26), (0.36, 0.24, 0.17))


@dataclass(frozen=True)
class Gait:
    """How a walker moves: cycles per frame, the legs' amplitude in degrees, the phase in cycles."""

    rate: float = 0.0
    reach: float = 0.0
    phase: float = 0.0


def gait(speed: float, leg: float, rng: random.Random) -> Gait:
    """Return the gait of legs of this length at this speed (units per frame), so that feet hardly slide."""
    reach = rng.uniform(22, 32)
    return Gait(speed / (4 * leg * math.sin(math.radians(reach))), reach, rng.random())


def figure(
    rng: random.Random, height: float, shirt: Texture, trousers: Texture, walk: Gait, waves: bool = False
) -> tuple[Part, ...]:
    """Return a person of this height: torso, head, arms and legs that swing with the gait."""
    skin = Texture("plain", (rng.choice(_SKIN),) * 2, grain=0.1)
    parts = [
        Part("ellipsoid", (0.13 * height, 0.2 * height, 0.09 * height), (0, -0.66 * height, 0), shirt),
        Part("ellipsoid", (0.065 * height, 0.085 * height, 0.075 * height), (0, -0.92 * height, 0), skin),
    ]
    radius = 0.045 * height
    thigh = (0.5 * height - radius) / 2
    for side, phase in ((-1, walk.phase), (1, walk.phase + 0.5)):
        hip = (side * 0.06 * height, -0.5 * height, 0.0)
        swing = (0.0, walk.reach, walk.rate, phase)
        knee = (0.0, -1.5 * walk.reach, phase + 0.25)
        parts += _limb(hip, swing, knee, (radius, 0.85 * radius), thigh, trousers)
        shoulder = (side * 0.15 * height, -0.79 * height, 0.0)
        swing = (0.0, -0.8 * walk.reach, walk.rate, phase)
        elbow = (12.0, 0.8 * walk.reach, phase + 0.5)
        if waves and side == 1:
            swing, elbow = (150.0, 25.0, 0.05, walk.phase), (10.0, 25.0, walk.phase)
        parts += _limb(shoulder, swing, elbow, (0.035 * height, 0.03 * height), 0.17 * height, shirt)
    return tuple(parts)


def _limb(
    joint: Vector,
    swing: tuple[float, float, float, float],
    bend: Vector,
    radii: tuple[float, float],
    length: float,
    texture: Texture,
) -> list[Part]:
    """Return the two halves of a limb that hangs from a joint; both are `length` long between joints."""
    half = length / 2
    upper = Part("capsule", (radii[0], half, radii[0]), (0.0, half, 0.0), texture, joint, swing)
    size = (radii[1], half, radii[1])
    return [upper, replace(upper, size=size, drop=length, bend=bend)]


def animal(rng: random.Random, height: float, coat: Texture, walk: Gait) -> tuple[Part, ...]:
    """Return a four-legged animal whose diagonal legs swing together."""
    length, radius = height * rng.uniform(0.75, 1.1), height * rng.uniform(0.16, 0.24)
    back = -height + radius
    parts = [
        Part("capsule", (radius, length / 2, radius), (0, back, 0), coat, turn=(90, 0, 0)),
        Part(
            "ellipsoid",
            (0.14 * height, 0.16 * height, 0.22 * height),
            (0, back - 0.28 * height, 0.62 * length),
            coat,
        ),
        Part(
            "capsule",
            (0.04 * height, 0.14 * height, 0.1),
            (0, 0.14 * height, 0),
            coat,
            (0, back - 0.6 * radius, -0.5 * length),
            (-130.0, 12.0, max(walk.rate, 0.03), walk.phase),
        ),
    ]
    leg = 0.06 * height
    for side in (-1, 1):
        for end in (-1, 1):
            swing = (0.0, 0.9 * walk.reach, walk.rate, walk.phase + (0.5 if side == end else 0.0))
            long = (height - radius - leg) / 2
            pivot = (side * 0.55 * radius, back, end * 0.5 * length)
            parts.append(Part("capsule", (leg, long, leg), (0, long, 0), coat, pivot, swing))
    return tuple(parts)


def table(rng: random.Random, wood: Texture) -> tuple[Part, ...]:
    """Return a table, with four legs or (round) with one."""
    height, wide, deep = rng.uniform(0.6, 0.95), rng.uniform(0.5, 1.0), rng.uniform(0.35, 0.6)
    if rng.random() < 0.3:
        return (
            Part("cylinder", (wide * 0.8, 0.03, 1), (0, -height, 0), wood),
            Part("cylinder", (0.06, height / 2 - 0.02, 1), (0, -height / 2, 0), wood),
            Part("cylinder", (wide * 0.4, 0.02, 1), (0, -0.02, 0), wood),
        )
    top = Part("box", (wide, 0.035, deep), (0, -height, 0), wood, gloss=(0.25, 40))
    return (top, *_legs(wide - 0.06, deep - 0.06, height - 0.035, wood))


def _legs(wide: float, deep: float, height: float, wood: Texture) -> list[Part]:
    half = height / 2
    return [
        Part("box", (0.035, half, 0.035), (side * wide, -half, end * deep), wood)
        for side in (-1, 1)
        for end in (-1, 1)
    ]


def chair(rng: random.Random, wood: Texture) -> tuple[Part, ...]:
    """Return a chair that faces +z."""
    seat, wide, back = rng.uniform(0.42, 0.55), rng.uniform(0.24, 0.32), rng.uniform(0.28, 0.42)
    return (
        Part("box", (wide, 0.03, wide), (0, -seat, 0), wood),
        Part("box", (wide, back, 0.025), (0, -seat - back, -wide), wood, turn=(8, 0, 0)),
        *_legs(wide - 0.04, wide - 0.04, seat - 0.03, wood),
    )


def shelf(rng: random.Random, wood: Texture, content: Texture) -> tuple[Part, ...]:
    """Return a shelf with a row of books."""
    height, wide, deep = rng.uniform(1.0, 1.9), rng.uniform(0.4, 0.75), rng.uniform(0.16, 0.24)
    boards = rng.choice((3, 4))
    parts = [Part("box", (0.025, height / 2, deep), (side * wide, -height / 2, 0), wood) for side in (-1, 1)]
    for index in range(boards):
        y = -0.05 - (height - 0.08) * index / (boards - 1)
        parts.append(Part("box", (wide, 0.02, deep), (0, y, 0), wood))
    gap = (height - 0.08) / (boards - 1)
    tall = 0.36 * gap
    y = -0.07 - gap * rng.randrange(boards - 1) - tall
    parts.append(Part("box", (wide * rng.uniform(0.5, 0.9), tall, deep * 0.8), (0, y, 0), content))
    return tuple(parts)


def sofa(rng: random.Random, cloth: Texture) -> tuple[Part, ...]:
    """Return a sofa that faces +z."""
    wide, seat = rng.uniform(0.7, 1.1), rng.uniform(0.34, 0.44)
    return (
        Part("box", (wide, seat / 2, 0.42), (0, -seat / 2, 0), cloth),
        Part("box", (wide, 0.42, 0.11), (0, -0.42, -0.36), cloth, turn=(6, 0, 0)),
        Part("box", (0.1, 0.3, 0.42), (-wide, -0.3, 0), cloth),
        Part("box", (0.1, 0.3, 0.42), (wide, -0.3, 0), cloth),
    )


def lamp(rng: random.Random, metal: Texture, shade: Texture, height: float) -> tuple[Part, ...]:
    """Return a standing lamp (with a drum for a shade)."""
    wide = rng.uniform(0.16, 0.26)
    return (
        Part("cylinder", (0.18, 0.02, 1), (0, -0.02, 0), metal, gloss=(0.5, 50)),
        Part("cylinder", (0.022, height / 2, 1), (0, -height / 2, 0), metal, gloss=(0.5, 50)),
        Part("cylinder", (wide, wide * 0.8, 1), (0, -height, 0), shade, glow=rng.choice((0.0, 0.35))),
    )


def lamppost(rng: random.Random, metal: Texture, height: float) -> tuple[Part, ...]:
    """Return a street lamp with an arm."""
    arm = rng.uniform(0.3, 0.6)
    return (
        Part("cylinder", (rng.uniform(0.04, 0.07), height / 2, 1), (0, -height / 2, 0), metal),
        Part("capsule", (0.03, arm / 2, 1), (arm / 2, -height, 0), metal, turn=(0, 0, 90)),
        Part("ellipsoid", (0.14, 0.08, 0.14), (arm, -height + 0.06, 0), metal, gloss=(0.6, 30)),
    )


def tree(rng: random.Random, bark: Texture, leaves: Texture, height: float) -> tuple[Part, ...]:
    """Return a tree whose crown is two or three blobs that sway a little."""
    trunk, wide = height * rng.uniform(0.35, 0.5), height * rng.uniform(0.2, 0.3)
    radius = height * rng.uniform(0.025, 0.045)
    parts = [Part("cylinder", (radius, trunk / 2 + 0.1, 1), (0, -trunk / 2 - 0.05, 0), bark)]
    sway = (0.0, rng.uniform(0.3, 1.2), rng.uniform(0.02, 0.04), rng.random())
    for index in range(rng.choice((2, 2, 3))):
        size = wide * (1 - 0.22 * index) * rng.uniform(0.9, 1.1)
        y = -trunk - (0.25 + 0.5 * index) * wide
        side = (rng.uniform(-0.35, 0.35) * wide, y + trunk, rng.uniform(-0.35, 0.35) * wide)
        parts.append(
            Part("ellipsoid", (size, size * rng.uniform(0.75, 1.1), size), side, leaves, (0, -trunk, 0), sway)
        )
    return tuple(parts)


def plant(rng: random.Random, pot: Texture, leaves: Texture, height: float) -> tuple[Part, ...]:
    """Return a plant in a pot, whose thin stems sway."""
    parts = [Part("cylinder", (0.16 * height, 0.16 * height, 1), (0, -0.16 * height, 0), pot)]
    for _ in range(rng.randint(4, 6)):
        long = height * rng.uniform(0.3, 0.45)
        sway = (180.0 + rng.uniform(-30, 30), rng.uniform(1, 4), rng.uniform(0.02, 0.05), rng.random())
        pivot = (rng.uniform(-0.06, 0.06) * height, -0.3 * height, rng.uniform(-0.06, 0.06) * height)
        lean = rng.uniform(-28, 28)
        radius = height * rng.uniform(0.012, 0.03)
        offset = (math.sin(math.radians(-lean)) * long, math.cos(math.radians(lean)) * long, 0.0)
        parts.append(Part("capsule", (radius, long, 1), offset, leaves, pivot, sway, turn=(0, 0, lean)))
    return tuple(parts)


def fence(rng: random.Random, wood: Texture) -> tuple[Part, ...]:
    """Return a fence along x: posts and two rails."""
    count, gap, height = rng.randint(4, 6), rng.uniform(0.35, 0.6), rng.uniform(0.5, 1.0)
    wide = gap * (count - 1) / 2
    posts = [
        Part("box", (0.035, height / 2, 0.025), (gap * index - wide, -height / 2, 0), wood)
        for index in range(count)
    ]
    rails = [Part("box", (wide + 0.1, 0.03, 0.015), (0, -height * at, 0), wood) for at in (0.4, 0.8)]
    return (*posts, *rails)


def line(rng: random.Random, pole: Texture) -> tuple[Part, ...]:
    """Return two poles with wires between them, along x."""
    wide, height = rng.uniform(1.0, 2.4), rng.uniform(1.6, 2.8)
    poles = [
        Part("cylinder", (0.045, height / 2, 1), (side * wide, -height / 2, 0), pole) for side in (-1, 1)
    ]
    wires = [
        Part("capsule", (rng.uniform(0.008, 0.018), wide, 1), (0, -height * at, 0), pole, turn=(0, 0, 90))
        for at in (0.98, 0.88)
    ]
    return (*poles, *wires)


def car(rng: random.Random, paint: Texture, glass: Texture) -> tuple[Part, ...]:
    """Return a car that faces +z."""
    long, wide, wheel = rng.uniform(0.75, 1.1), rng.uniform(0.36, 0.46), rng.uniform(0.15, 0.2)
    tyre = Texture("plain", ((0.1, 0.1, 0.11),) * 2, grain=0.2)
    low, tall = -1.1 * wheel, rng.uniform(0.16, 0.24)
    parts = [
        Part("box", (wide, tall, long), (0, low - tall, 0), paint, gloss=(0.5, 40)),
        Part(
            "box",
            (wide * 0.86, tall * 0.9, long * rng.uniform(0.45, 0.6)),
            (0, low - 2.8 * tall, -0.1 * long),
            glass,
            gloss=(0.6, 60),
        ),
    ]
    for side in (-1, 1):
        for end in (-1, 1):
            place = (side * wide, -wheel, end * 0.62 * long)
            parts.append(Part("cylinder", (wheel, 0.06, 1), place, tyre, turn=(0, 0, 90)))
    return tuple(parts)


def bush(rng: random.Random, leaves: Texture) -> tuple[Part, ...]:
    """Return a bush or a rock: one or two blobs on the ground."""
    wide = rng.uniform(0.3, 0.7)
    size = (wide, wide * rng.uniform(0.5, 0.9), wide * rng.uniform(0.7, 1.1))
    beside = (rng.uniform(0.5, 1.0) * wide, -0.2 * wide, rng.uniform(-0.3, 0.3) * wide)
    blobs = [Part("ellipsoid", size, (0, -0.6 * size[1], 0), leaves)]
    if rng.random() < 0.5:
        blobs.append(Part("ellipsoid", (0.6 * wide, 0.5 * wide, 0.6 * wide), beside, leaves))
    return tuple(blobs)


def house(rng: random.Random, wall: Texture, roof: Texture) -> tuple[Part, ...]:
    """Return a house with a gable roof, half as large again as a person is tall at least."""
    wide, tall, deep = rng.uniform(1.6, 3.5), rng.uniform(1.2, 2.6), rng.uniform(1.5, 3.0)
    edge = wide * 0.78
    return (
        Part("box", (wide, tall, deep), (0, -tall, 0), wall),
        Part("box", (edge, edge, deep * 1.05), (0, -2 * tall, 0), roof, turn=(0, 0, 45)),
    )
