"""Random scenes from a seed.

The order of random draws is the format: reordering, adding or removing one changes the world of every seed.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, get_args

import numpy as np

from recapture.datasets.scenes.assemble import make_scene, stack_scenes
from recapture.datasets.scenes.layout import (
    KINDS,
    Kind,
    Room,
    Scene,
    SceneObject,
    SourceCamera,
    Texture,
    Vector,
)
from recapture.datasets.scenes.wide_scenes import stack_wide, wide_scene
from recapture.datasets.scenes.words import CAMERA_MOTIONS, COLOURS, WALL_COLOURS, action, caption_of, phrase
from recapture.datasets.scenes.world_layout import stack_world
from recapture.datasets.scenes.world_scenes import world_scene

Variety = Literal["classic", "wide", "world"]


def sample_scene(
    seed: int,
    camera_motion: bool | None = None,
    fov_degrees: float | None = None,
    variety: Variety = "classic",
) -> Scene:
    """Return a random scene: bodies that move, hop and spin in a textured room.

    camera_motion: whether the source camera moves; None lets the seed decide.
    fov_degrees: of the longer side; None lets the seed decide.
    variety: "classic" has 3 to 6 bodies of two colours, and its room leaves space to orbit its centre:
    45 degrees to the sides, 25 up, 20 down. "wide" has 2 to 7 bodies, among them thin poles and slabs, plain
    colours and photographs on any surface, and more varied light, lenses, room sizes and camera motion.
    "world" has places outdoors and furnished rooms, with people, animals and cars that move, thin structures,
    shadows, highlights, haze, and cameras that drive, pan, zoom and shake.
    The same seed and options give the same scene. Raises: ValueError for an unknown variety.
    """
    if _checked(variety) == "world":
        return world_scene(seed, camera_motion, fov_degrees).scene()
    if variety == "wide":
        return wide_scene(seed, camera_motion, fov_degrees).scene()
    rng = np.random.default_rng([seed, 20240607])
    names = [str(name) for name in rng.permutation(list(COLOURS))]
    floor = float(rng.uniform(1.55, 1.85))
    room = _room(rng, floor)
    spots = [(column, row) for row in range(2) for column in range(3)]
    rng.shuffle(spots)
    count = int(rng.integers(3, 7))
    kinds = [str(kind) for kind in rng.permutation([*KINDS, *KINDS])][:count]
    objects, phrases = [], []
    for kind, spot, (name, other) in zip(kinds, spots, zip(names, names[7:] + names[:7])):
        item, phrase = _object(rng, kind, spot, floor, name, other)  # type: ignore[arg-type]
        objects.append(item)
        phrases.append(phrase)
    sways = bool(rng.random() < 0.5) if camera_motion is None else camera_motion
    camera = _camera(rng, sways, fov_degrees)
    angle = rng.uniform(-0.7, 0.7)
    light = (float(np.sin(angle)), -1.1, float(-np.cos(angle)))
    words = caption_of(
        phrases, room.textures[5].pattern, room.textures[3].pattern, CAMERA_MOTIONS[0] if sways else ""
    )
    return make_scene(objects, room, camera, light, words)


def sample_scenes(
    seeds: Sequence[int], camera_motion: bool | None = None, variety: Variety = "classic"
) -> Scene:
    """Return a batch of random scenes, one per seed; scene i looks like sample_scene(seeds[i]).

    Wide scenes share one set of object slots, whatever the seeds. Raises: ValueError for an unknown variety.
    """
    if _checked(variety) == "world":
        return stack_world([world_scene(seed, camera_motion) for seed in seeds])
    if variety == "wide":
        return stack_wide([wide_scene(seed, camera_motion) for seed in seeds])
    return stack_scenes([sample_scene(seed, camera_motion) for seed in seeds])


def _checked(variety: str) -> str:
    if variety not in get_args(Variety):
        raise ValueError(f"scene variety is {variety!r}; use {', '.join(map(repr, get_args(Variety)))}")
    return variety


def _colour(rng: np.random.Generator, name: str) -> Vector:
    hue, saturation, value = COLOURS[name]
    hue += rng.uniform(-7, 7)
    saturation = np.clip(saturation * rng.uniform(0.85, 1.15), 0, 1)
    red, green, blue = colorsys.hsv_to_rgb(
        hue % 360 / 360, saturation, np.clip(value * rng.uniform(0.9, 1.05), 0, 1)
    )
    return float(red), float(green), float(blue)


def _blend(colour: Vector, towards: Vector, share: float) -> Vector:
    red, green, blue = (a + (b - a) * share for a, b in zip(colour, towards))
    return red, green, blue


def _phase(rng: np.random.Generator) -> Vector:
    x, y, z = rng.uniform(0, 5, 3)
    return float(x), float(y), float(z)


def _object(
    rng: np.random.Generator, kind: Kind, spot: tuple[int, int], floor: float, name: str, other: str
) -> tuple[SceneObject, str]:
    # The order of random draws is the format; see the top of the file.
    reach = float(rng.uniform(0.42, 0.70))
    if kind == "sphere":
        size: Vector = (reach, reach, reach)
    elif kind == "cylinder":
        size = (reach * float(rng.uniform(0.6, 0.9)), reach * float(rng.uniform(0.8, 1.5)), reach)
    else:
        wide, tall, deep = rng.uniform(0.65, 1.1, 3) * reach
        size = (float(wide), float(tall), float(deep))
    height = size[0] if kind == "sphere" else size[1]
    tumbling = kind != "sphere" and rng.random() < 0.3
    lift = float(np.hypot(size[0], height) + rng.uniform(0.05, 0.6)) if tumbling else height
    column, row = spot
    middle = np.array([(column - 1) * (1.2 + 0.5 * row), floor - lift, 3.4 + 1.9 * row])
    middle[[0, 2]] += rng.uniform(-0.25, 0.25, 2)
    heading = rng.uniform(0, 2 * np.pi)
    speed = float(rng.uniform(0.02, 0.06)) if rng.random() < 0.75 else 0.0
    velocity = (float(np.cos(heading) * speed), 0.0, float(np.sin(heading) * speed))
    margin = np.array([0.65, 0.0, 0.8])
    hops = speed == 0.0 or rng.random() < 0.35
    axis = rng.normal(size=3) if tumbling or kind == "sphere" else np.array([0.0, 1.0, 0.0])
    pattern = str(
        rng.choice(["checkered", "striped", "dotted", "marbled", "bricked"], p=[0.3, 0.27, 0.22, 0.16, 0.05])
    )
    texture = Texture(
        pattern=pattern,
        colours=(_colour(rng, name), _colour(rng, other)),
        cells=float(rng.uniform(2.2, 4.2)),
        turn_degrees=float(rng.choice([0, 90])) if kind != "box" else float(rng.choice([0, 45, 90, -45])),
        grain=float(rng.uniform(0.25, 0.7)),
        phase=_phase(rng),
    )
    spin = float(rng.uniform(1.5, 5.0) * rng.choice([-1, 1]))
    item = SceneObject(
        kind=kind,
        size=size,
        position=_vector(middle),
        velocity=velocity,
        low=_vector(middle - margin),
        high=_vector(middle + margin),
        hop_height=float(rng.uniform(0.25, 0.8)) if hops else 0.0,
        hop_rate=float(rng.uniform(0.04, 0.09)),
        hop_phase=float(rng.uniform(0, 1)),
        axis=_vector(axis),
        angle_degrees=float(rng.uniform(0, 360)),
        spin_degrees=spin,
        texture=texture,
    )
    return item, phrase(f"{name} and {other} {pattern}", kind, action(velocity, hops, tumbling))


def _vector(values: np.ndarray) -> Vector:
    x, y, z = (float(value) for value in values)
    return x, y, z


def _room(rng: np.random.Generator, floor: float) -> Room:
    names = [str(name) for name in rng.choice(WALL_COLOURS, 6, replace=False)]
    textures = []
    for face, name in enumerate(names):
        base = _blend(_colour(rng, name), (0.92, 0.90, 0.86), float(rng.uniform(0.1, 0.5)))
        second = _blend(base, _colour(rng, str(rng.choice(WALL_COLOURS))), float(rng.uniform(0.45, 0.9)))
        dark = _blend(second, (0.15, 0.13, 0.15), float(rng.uniform(0.2, 0.5)))
        pattern = str(
            rng.choice(
                ["marbled", "checkered", "striped", "dotted", "bricked"], p=[0.3, 0.2, 0.15, 0.1, 0.25]
            )
        )
        texture = Texture(
            pattern,
            (base, dark),
            float(rng.uniform(0.9, 1.9)),
            0.0,
            float(rng.uniform(0.5, 1.0)),
            _phase(rng),
        )
        if face != 3 and pattern == "striped":
            texture = replace(texture, turn_degrees=float(rng.choice([0, 90])))
        if pattern == "bricked":
            texture = replace(texture, cells=texture.cells * 1.7)
        textures.append(texture)
    side, back = float(rng.uniform(4.0, 4.8)), float(rng.uniform(6.4, 7.6))
    return Room((-side, -3.0, -3.6), (side, floor, back), tuple(textures))


def _camera(rng: np.random.Generator, sways: bool, fov_degrees: float | None) -> SourceCamera:
    position = np.array([0.0, -0.35, 0.0]) + rng.uniform([-0.5, -0.35, -0.4], [0.5, 0.2, 0.3])
    target = np.array([0.0, 0.7, 4.2]) + rng.uniform([-0.3, -0.2, 0], [0.3, 0.2, 0])
    amount = 1.0 if sways else 0.0
    position_sway = amount * rng.uniform(0.25, 0.6) * _direction(rng) * np.array([1.0, 0.5, 0.7])
    target_sway = amount * rng.uniform(0.0, 0.3) * _direction(rng)
    fov = float(rng.uniform(54, 66)) if fov_degrees is None else fov_degrees
    return SourceCamera(
        _vector(position), _vector(target), _vector(position_sway), _vector(target_sway), 56.0, fov
    )


def _direction(rng: np.random.Generator) -> np.ndarray:
    direction = rng.normal(size=3)
    return direction / np.linalg.norm(direction)
