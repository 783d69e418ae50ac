"""Place the named actors of a "world" where the camera sees them, and let them travel."""

from __future__ import annotations

import math
import random
from dataclasses import replace

from recapture.datasets.scenes.layout import Vector
from recapture.datasets.scenes.wide_scenes import named_colour
from recapture.datasets.scenes.words import action, phrase
from recapture.datasets.scenes.world_layout import Actor, Part
from recapture.datasets.scenes.world_looks import photograph, textured
from recapture.datasets.scenes.world_props import DRAWERS, NEAREST, Drawn, Stage

MIDDLE = 35.0  # frames; when travelling actors are where they were placed
_LATER = (-30.0, -15.0, 15.0, 30.0, 50.0)  # frames around MIDDLE at which their line shall be free
_TRIES = 12


def draw_actor(
    rng: random.Random,
    kind: str,
    stage: Stage,
    names: list[str],
    taken: list[tuple[float, float, float]],
) -> Actor | None:
    """Return an actor of this kind in the next of the colours, or None where there is no room for it.

    names: colours, used up from the front; taken: x, z and radius of what is there already, extended.
    """
    if kind == "body":
        drawn, actor = _body(rng, stage, names)
    else:
        drawn = DRAWERS[kind](rng, stage, names)
        actor = Actor(drawn.parts, (0.0, stage.floor, 0.0))
    place = _place(rng, drawn, stage, taken)
    if place is None:
        return None
    x, z = place
    taken.append((x, z, drawn.radius))
    if kind == "body":
        return _set_down(actor, x, z, stage)
    if drawn.speed == 0:
        heading = _heading(rng, kind, x, z)
        words = phrase(drawn.looks, drawn.noun, drawn.doing)
        return replace(actor, position=(x, stage.floor, z), heading_degrees=heading, words=words)
    if not stage.outdoors:
        return _circling(rng, drawn, actor, (x, z))
    return _travelling(rng, drawn, actor, (x, z), stage, taken)


def _heading(rng: random.Random, kind: str, x: float, z: float) -> float:
    facing = math.degrees(math.atan2(-x, -z))  # towards the camera
    if kind in ("shelf", "sofa", "fence", "line", "lamppost"):
        return rng.gauss(180.0 if kind in ("shelf", "sofa") else 0.0, 12)
    return facing + rng.uniform(-110, 110)


def _place(
    rng: random.Random, drawn: Drawn, stage: Stage, taken: list[tuple[float, float, float]]
) -> tuple[float, float] | None:
    """Return x and z of a free place that the camera sees."""
    high = stage.room[1]
    farthest = 16.0 if stage.outdoors else high[2] - drawn.radius - 0.1
    nearest = (NEAREST if stage.outdoors else stage.nearest) + 0.6 * drawn.radius
    nearest += 5.0 if drawn.noun == "house" else 0.0
    if farthest <= nearest:
        return None if taken else (0.0, farthest)
    for _ in range(_TRIES):
        z = nearest + (farthest - nearest) * rng.random() ** (1.9 if stage.outdoors else 1.0)
        across = 0.8 * math.tan(math.radians(stage.fov_degrees) / 2) * z
        across = across if stage.outdoors else min(across, high[0] - drawn.radius - 0.1)
        x = rng.uniform(-1, 1) * max(across, 0.0)
        in_the_way = z < stage.nearest and (drawn.speed > 0 or abs(x) < 1.3 + drawn.radius)
        if not in_the_way and _is_free((x, z), drawn.radius, taken):
            return x, z
    return None if taken else (0.0, stage.nearest + drawn.radius)


def _circling(rng: random.Random, drawn: Drawn, actor: Actor, place: tuple[float, float]) -> Actor:
    """Return a walker in a room, on a circle around a place."""
    circle, way = drawn.radius - 0.35, rng.choice((-1, 1))
    return replace(
        actor,
        parts=tuple(_beside(part, -way * circle) for part in actor.parts),
        position=(place[0], actor.position[1], place[1]),
        heading_degrees=rng.uniform(0, 360),
        spin_degrees=way * math.degrees(drawn.speed / circle),
        words=phrase(drawn.looks, drawn.noun, "walking in a circle"),
    )


def _travelling(
    rng: random.Random,
    drawn: Drawn,
    actor: Actor,
    place: tuple[float, float],
    stage: Stage,
    taken: list[tuple[float, float, float]],
) -> Actor:
    """Return a walker or a car on a straight line, past what is there already if possible."""
    x, z = place
    verb = "driving" if drawn.noun == "car" else "walking"
    ways = ["to the right", "to the left"]
    if verb == "walking" and stage.path.velocity[2] <= 0 and z > 7.5:
        ways += ["away", "closer"]
    rng.shuffle(ways)
    for towards in ways:
        heading = {"to the right": 90.0, "to the left": -90.0, "away": 0.0, "closer": 180.0}[towards]
        heading += rng.uniform(-16, 16)
        turn = math.radians(heading)
        velocity = (math.sin(turn) * drawn.speed, 0.0, math.cos(turn) * drawn.speed)
        line = [(x + velocity[0] * later, z + velocity[2] * later) for later in _LATER]
        if all(_is_free(at, 0.6 * drawn.radius, taken[:-1]) for at in line):
            break
    taken += [(*at, 0.6 * drawn.radius) for at in line]
    start = (x - MIDDLE * velocity[0], stage.floor, z - MIDDLE * velocity[2])
    return replace(
        actor,
        position=start,
        velocity=velocity,
        heading_degrees=heading,
        words=phrase(drawn.looks, drawn.noun, f"{verb} {towards}"),
    )


def _is_free(at: tuple[float, float], radius: float, taken: list[tuple[float, float, float]]) -> bool:
    return all(math.hypot(at[0] - x, at[1] - z) > 0.85 * (radius + other) for x, z, other in taken)


def _beside(part: Part, x: float) -> Part:
    return replace(part, pivot=(part.pivot[0] + x, part.pivot[1], part.pivot[2]))


def _body(rng: random.Random, stage: Stage, names: list[str]) -> tuple[Drawn, Actor]:
    """Return a ball, box, cylinder, pole or slab, which may glide, hop or turn."""
    noun = rng.choice(("sphere", "sphere", "box", "box", "cylinder", "pole", "slab"))
    reach = rng.uniform(0.2, 0.6)
    size: Vector = (reach, reach * rng.uniform(0.6, 1.4), reach * rng.uniform(0.6, 1.2))
    if noun == "sphere":
        size = (reach, reach, reach)
    elif noun == "pole":
        size = (rng.uniform(0.03, 0.08), rng.uniform(0.5, 1.2), reach)
    elif noun == "slab":
        size = (reach, 1.3 * reach, rng.uniform(0.02, 0.06))
    name, other = names.pop(0), names[0]
    pattern = rng.choices(
        ("plain", "photographed", "checkered", "striped", "dotted", "waved"), (45, 25, 8, 10, 7, 5)
    )[0]
    looks = {"plain": name, "photographed": pattern}.get(pattern, f"{name} and {other} {pattern}")
    texture = (
        photograph(rng, None, rng.uniform(0.6, 1.6))
        if pattern == "photographed"
        else textured(
            rng,
            pattern,
            named_colour(rng, name),
            named_colour(rng, other),
            rng.uniform(2, 4.5),
            rng.uniform(0, 0.5),
        )
    )
    speed = rng.uniform(0.01, 0.07) if rng.random() < 0.6 else 0.0
    hops = noun != "pole" and rng.random() < (0.3 if speed else 0.6)
    heading = rng.uniform(0, 2 * math.pi)
    velocity = (math.cos(heading) * speed, 0.0, math.sin(heading) * speed)
    kind = {"sphere": "ellipsoid", "pole": "cylinder", "slab": "box"}.get(noun, noun)
    shiny = (rng.uniform(0.2, 0.8), rng.uniform(20, 80)) if rng.random() < 0.5 else (0.05, 16.0)
    part = Part(kind, size, (0.0, 0.0, 0.0), texture, gloss=shiny)  # type: ignore[arg-type]
    spin = rng.uniform(0.5, 5.0) * rng.choice((-1, 1))
    actor = Actor(
        (part,),
        (0.0, stage.floor - size[1], 0.0),
        phrase(looks, noun, action(velocity, hops, False)),
        velocity,
        hop=(rng.uniform(0.2, 0.8) if hops else 0.0, rng.uniform(0.03, 0.09), rng.random()),
        axis=(rng.gauss(0, 1), rng.gauss(0, 1), rng.gauss(0, 1)) if noun == "sphere" else (0.0, 1.0, 0.0),
        heading_degrees=rng.uniform(0, 360),
        spin_degrees=spin if speed == 0 or noun == "sphere" else 0.3 * spin,
    )
    return Drawn((part,), math.hypot(size[0], size[2]) + 0.3 * bool(speed), looks, noun), actor


def _set_down(actor: Actor, x: float, z: float, stage: Stage) -> Actor:
    """Return the actor at a place, travelling to and fro around it."""
    y, margin = actor.position[1], 0.45
    low, high = stage.room
    return replace(
        actor,
        position=(x, y, z),
        low=(max(x - margin, low[0] + 0.5), y, z - margin),
        high=(min(x + margin, high[0] - 0.5), y, min(z + margin, high[2] - 0.5)),
    )
