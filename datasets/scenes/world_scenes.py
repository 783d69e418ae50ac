"""Random scenes of the variety "world": streets, gardens and rooms with people, furniture, plants and cars.

The order of random draws is the format: reordering, adding or removing one changes the world of every seed.
"""

from __future__ import annotations

import math
import random
from collections import Counter

from recapture.datasets.scenes.layout import Lighting, Room, SourceCamera, Texture, Vector
from recapture.datasets.scenes.wide_scenes import blend, named_colour
from recapture.datasets.scenes.words import COLOURS, caption_of, outdoor_caption
from recapture.datasets.scenes.world_cast import draw_actor
from recapture.datasets.scenes.world_layout import CAPACITY, Actor, Air, CameraPath, Film, WorldScene
from recapture.datasets.scenes.world_looks import ground_texture, wall_texture
from recapture.datasets.scenes.world_props import INDOORS, OUTDOORS, Stage
from recapture.datasets.scenes.world_scenery import scenery

_EYE = -0.25  # the height at which cameras are, about


def world_scene(seed: int, camera_motion: bool | None = None, fov_degrees: float | None = None) -> WorldScene:
    """Draw the scene of a seed; the arguments are those of sample_scene."""
    rng = random.Random(f"world {seed}")
    outdoors = rng.random() < 0.6
    path, moving = _path(rng, camera_motion, outdoors)
    fov = rng.uniform(42, 72)
    floor = rng.uniform(0.9, 1.9)
    stage = Stage(outdoors, floor, _room_size(rng, outdoors, floor), path, fov)
    names = rng.sample(list(COLOURS), len(COLOURS))
    room, ground = _room(rng, stage)
    actors: list[Actor] = []
    phrases: list[str] = []
    free = Counter(CAPACITY)
    taken: list[tuple[float, float, float]] = []
    kinds, weights = zip(*(OUTDOORS if outdoors else INDOORS).items())
    drawn = rng.choices(kinds, weights, k=rng.randint(3, 6))
    while drawn or not actors:  # in a narrow place it can take more than one round until anything fits
        kind = drawn.pop(0) if drawn else rng.choices(kinds, weights)[0]
        actor = draw_actor(rng, kind, stage, names, taken)
        needs = Counter(part.kind for part in actor.parts) if actor else Counter()
        if actor is not None and all(needs[part] <= free[part] for part in needs):
            free -= needs
            actors.append(actor)
            phrases.append(actor.words)
    for extra in scenery(rng, stage, taken):
        needs = Counter(part.kind for part in extra.parts)
        if all(needs[part] <= free[part] for part in needs):
            free -= needs
            actors.append(extra)
    light, lighting, air, sky = _weather(rng, outdoors)
    camera = SourceCamera(
        (rng.uniform(-0.5, 0.5), min(_EYE + rng.uniform(-0.4, 0.3), floor - 0.5), rng.uniform(-0.4, 0.4)),
        (rng.uniform(-0.5, 0.5), rng.uniform(-0.1, 0.5), 5.0),
        fov_degrees=fov if fov_degrees is None else fov_degrees,
    )
    words = (
        outdoor_caption(phrases, ground, sky, moving)
        if outdoors
        else caption_of(phrases, room.textures[5].pattern, room.textures[3].pattern, moving)
    )
    return WorldScene(actors, room, camera, light, lighting, air, path, _film(rng), words)


def _path(rng: random.Random, moves: bool | None, outdoors: bool) -> tuple[CameraPath, str]:
    """Return how the camera moves, and the words for it."""
    shake = rng.uniform(0.2, 0.6) if rng.random() < 0.35 else 0.0
    phase = rng.random()
    kind = rng.choices(
        ("still", "shake", "pan", "tilt", "drift", "forward", "back", "rise", "zoom"),
        (18, 14, 18, 5, 15, 15, 5, 4, 6),
    )[0]
    side, speed, turn = rng.choice((-1, 1)), rng.uniform(0.015, 0.06), rng.uniform(0.25, 1.2)
    if moves is False:
        return CameraPath(), "the camera stands still"
    if kind == "still" and moves:
        kind = "shake"
    where = "to the right" if side > 0 else "to the left"
    if kind == "still":
        return CameraPath(), "the camera stands still"
    if kind == "shake":
        return CameraPath(shake=rng.uniform(0.5, 1.4), shake_phase=phase), "the camera shakes"
    if kind == "pan":
        limit = rng.uniform(20, 45)
        path = CameraPath(yaw=side * turn, turn_limit=limit, shake=shake, shake_phase=phase)
        return path, f"the camera pans {where}"
    if kind == "tilt":
        path = CameraPath(pitch=side * 0.5 * turn, turn_limit=14.0, shake=shake, shake_phase=phase)
        return path, f"the camera tilts {'up' if side > 0 else 'down'}"
    if kind == "zoom":
        path = CameraPath(zoom=side * rng.uniform(0.006, 0.02), shake=shake, shake_phase=phase)
        return path, f"the camera zooms {'in' if side > 0 else 'out'}"
    if kind == "drift":
        velocity, limit, words = (side * speed, 0.0, 0.0), 1.6, f"the camera drifts {where}"
    elif kind == "rise":
        velocity, limit, words = (0.0, -0.6 * speed, 0.0), 0.9, "the camera rises"
    elif kind == "back":
        velocity, limit, words = (0.0, 0.0, -speed), 1.5, "the camera moves back"
    else:
        fast = speed * (rng.uniform(1, 3) if outdoors else 1.0)
        velocity, limit = (0.0, 0.0, fast), 4.0 if outdoors else 1.1
        words = "the camera moves forward"
    return CameraPath(velocity, limit, shake=shake, shake_phase=phase), words


def _room_size(rng: random.Random, outdoors: bool, floor: float) -> tuple[Vector, Vector]:
    if outdoors:
        far = rng.uniform(70, 130)
        return (-far, -0.7 * far, -far), (far, floor, far)
    side, back = rng.uniform(2.4, 4.2), rng.uniform(6.2, 9.0)
    return (-side, floor - rng.uniform(2.5, 3.4), -rng.uniform(1.6, 3.0)), (side, floor, back)


def _room(rng: random.Random, stage: Stage) -> tuple[Room, str]:
    """Return the room and what its ground is called."""
    floor, word = ground_texture(rng, stage.outdoors)
    if stage.outdoors:
        blank = Texture("plain")
        return Room(*stage.room, (blank, blank, blank, floor, blank, blank)), word
    wall = wall_texture(rng)
    other = wall_texture(rng) if rng.random() < 0.3 else wall
    white = Texture("plain", ((0.97, 0.96, 0.94),) * 2, grain=0.05)
    return Room(*stage.room, (wall, wall, white, floor, wall, other)), word


def _weather(rng: random.Random, outdoors: bool) -> tuple[Vector, Lighting, Air, str]:
    """Return the direction of the light, the lighting, the air, and the word for the sky."""
    sky = rng.choices(("clear", "cloudy", "grey", "evening"), (0.35, 0.35, 0.18, 0.12))[0]
    turn = rng.uniform(-2.6, 2.6)
    climb = rng.uniform(0.55, 1.25) if sky != "evening" else rng.uniform(0.25, 0.45)
    if not outdoors:
        climb = rng.uniform(0.7, 1.4)
    light = (math.sin(turn) * math.cos(climb), -math.sin(climb), -math.cos(turn) * math.cos(climb))
    warm, gain = rng.gauss(0, 0.035), rng.uniform(0.85, 1.08)
    colour = (gain * (1 + warm), gain, gain * (1 - warm))
    if not outdoors:
        ambient = rng.uniform(0.45, 0.75)
        air = Air(False, 0.0, rng.uniform(0.15, 0.6), rng.uniform(0.5, 0.9))
        return light, Lighting(ambient, 1.02 - ambient, colour), air, sky
    haze = 10 ** rng.uniform(-2.6, -1.35)
    softness = rng.uniform(0.02, 0.2)
    ambient, direct, clouds, glow = (
        rng.uniform(0.38, 0.55),
        rng.uniform(0.5, 0.75),
        0.0,
        rng.uniform(0.1, 0.5),
    )
    zenith = named_colour(rng, rng.choice(("sky blue", "blue")))
    zenith = blend(zenith, (0.35, 0.5, 0.75), rng.uniform(0.2, 0.7))
    horizon = blend((0.82, 0.87, 0.92), zenith, rng.uniform(0.0, 0.35))
    if sky == "clear":
        clouds = rng.uniform(0.0, 0.15)
    elif sky == "cloudy":
        clouds = rng.uniform(0.4, 0.62)
    elif sky == "grey":
        grey = rng.uniform(0.62, 0.85)
        zenith, horizon = (0.92 * grey, 0.96 * grey, grey), (grey * 1.05, grey * 1.06, grey * 1.08)
        ambient, direct, glow, softness = rng.uniform(0.7, 0.85), 0.2, 0.0, rng.uniform(0.4, 0.8)
        clouds = rng.uniform(0.1, 0.5)
    else:
        horizon = blend((0.98, 0.72, 0.48), horizon, rng.uniform(0.0, 0.4))
        clouds, glow = rng.uniform(0.1, 0.5), rng.uniform(0.4, 0.7)
        colour = (1.04 * gain, 0.98 * gain, 0.93 * gain)
    air = Air(
        True, haze, softness, 0.95, clouds, rng.uniform(0.5, 1.6), rng.uniform(0, 7), glow, zenith, horizon
    )
    return light, Lighting(ambient, direct, colour), air, sky


def _film(rng: random.Random) -> Film:
    drifts, blurred = rng.random() < 0.4, rng.random() < 0.35
    return Film(
        exposure=rng.uniform(0.03, 0.12) if drifts else 0.0,
        exposure_period=rng.uniform(30, 120),
        exposure_phase=rng.random(),
        aperture=10 ** rng.uniform(-3.4, -2.6) if blurred else 0.0,
        focus=rng.uniform(3.0, 7.0),
        focus_speed=rng.uniform(-0.01, 0.01) if rng.random() < 0.3 else 0.0,
        noise=rng.uniform(0.002, 0.01) if rng.random() < 0.5 else 0.0,
        grade=rng.uniform(0.92, 1.1),
    )
