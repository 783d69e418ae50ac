"""Random scenes of the wide variety: many looks, lights, lenses and rooms, thin bodies, moving cameras.

The order of random draws is the format: reordering, adding or removing one changes the world of every seed.
"""

from __future__ import annotations

import colorsys
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from recapture.datasets.scenes.assemble import make_scene, pack_into_slots
from recapture.datasets.scenes.layout import (
    Kind,
    Lighting,
    Room,
    Scene,
    SceneObject,
    SourceCamera,
    Texture,
    Vector,
)
from recapture.datasets.scenes.words import (
    CAMERA_MOTIONS,
    COLOURS,
    WALL_COLOURS,
    action,
    caption_of,
    phrase,
)

# Bodies to draw from without replacement; a batch has one slot for each.
_BODIES: tuple[tuple[str, Kind], ...] = (
    ("sphere", "sphere"),
    ("sphere", "sphere"),
    ("box", "box"),
    ("box", "box"),
    ("slab", "box"),
    ("cylinder", "cylinder"),
    ("cylinder", "cylinder"),
    ("pole", "cylinder"),
)
SLOTS: tuple[Kind, ...] = tuple(kind for _, kind in _BODIES)
CAMERA_LIMIT = 1.2  # source cameras stay below this z; every body stays beyond it

# How often an object and a face of the room has each pattern.
_OBJECT_PATTERNS = {
    "plain": 0.30,
    "photographed": 0.30,
    "checkered": 0.09,
    "striped": 0.09,
    "dotted": 0.06,
    "marbled": 0.05,
    "waved": 0.05,
    "speckled": 0.04,
    "bricked": 0.02,
}
_FACE_PATTERNS = {
    "photographed": 0.38,
    "plain": 0.16,
    "marbled": 0.14,
    "bricked": 0.09,
    "checkered": 0.08,
    "striped": 0.06,
    "speckled": 0.04,
    "waved": 0.03,
    "dotted": 0.02,
}


@dataclass(frozen=True)
class WideScene:
    """A drawn scene, before it becomes tensors."""

    objects: list[SceneObject]
    room: Room
    camera: SourceCamera
    light: Vector
    lighting: Lighting
    caption: str

    def scene(self) -> Scene:
        """Return the scene as tensors."""
        return make_scene(self.objects, self.room, self.camera, self.light, self.caption, self.lighting)


def stack_wide(drawn: Sequence[WideScene]) -> Scene:
    """Return a batch of drawn scenes, whose object slots are SLOTS."""
    return pack_into_slots(
        SLOTS,
        [one.caption for one in drawn],
        [one.objects for one in drawn],
        [one.room for one in drawn],
        [one.camera for one in drawn],
        [one.light for one in drawn],
        [one.lighting for one in drawn],
    )


def wide_scene(seed: int, camera_motion: bool | None = None, fov_degrees: float | None = None) -> WideScene:
    """Draw the scene of a seed; the arguments are those of sample_scene."""
    rng = random.Random(f"wide {seed}")
    room, fov = _room(rng), rng.uniform(40, 75)
    names = rng.sample(list(COLOURS), len(COLOURS))
    count = rng.randint(2, 7)
    spots = [(column, row) for row in range(3) for column in range(3)]
    rng.shuffle(spots)
    objects, phrases = [], []
    for (noun, kind), spot, name, other in zip(rng.sample(_BODIES, count), spots, names, reversed(names)):
        item, words = _object(rng, noun, kind, _middle(rng, spot, room, fov), room, name, other)
        objects.append(item)
        phrases.append(words)
    moves = rng.random() < 0.5 if camera_motion is None else camera_motion
    camera = _camera(rng, moves, room, fov if fov_degrees is None else fov_degrees)
    turn, climb = rng.uniform(-1.3, 1.3), rng.uniform(0.35, 1.3)
    light = (math.sin(turn) * math.cos(climb), -math.sin(climb), -math.cos(turn) * math.cos(climb))
    textures = room.textures
    words = caption_of(phrases, textures[5].pattern, textures[3].pattern, CAMERA_MOTIONS[1] if moves else "")
    return WideScene(objects, room, camera, light, _lighting(rng), words)


def _lighting(rng: random.Random) -> Lighting:
    gain, ambient = rng.triangular(0.55, 1.25, 1.0), rng.uniform(0.4, 0.85)
    warm = rng.gauss(0, 0.07)
    return Lighting(ambient, 1.04 - ambient, (gain * (1 + warm), gain, gain * (1 - warm)))


def _middle(rng: random.Random, spot: tuple[int, int], room: Room, fov: float) -> tuple[float, float]:
    """Return x and z of a body at a spot of a 3 x 3 grid that fills the view of a lens of `fov` degrees."""
    column, row = spot
    nearest, farthest = 3.3, min(room.high[2] - 1.6, 7.4)
    z = nearest + (farthest - nearest) * row / 2
    across = min(room.high[0] - 1.5, 0.75 * math.tan(math.radians(fov) / 2) * z)
    return (column - 1) * across + rng.uniform(-0.3, 0.3), z + rng.uniform(-0.25, 0.25)


def _size(rng: random.Random, noun: str, height: float) -> Vector:
    """Return the size of a body in a room of this height, as SceneObject.size."""
    reach = rng.uniform(0.32, 0.78)
    if noun == "sphere":
        return reach, reach, reach
    if noun == "cylinder":
        return reach * rng.uniform(0.5, 0.9), min(reach * rng.uniform(0.7, 1.7), 0.4 * height), reach
    if noun == "pole":
        return rng.uniform(0.04, 0.1), rng.uniform(0.22, 0.46) * height, reach
    wide, tall, deep = (reach * rng.uniform(0.55, 1.1) for _ in range(3))
    if noun == "slab":
        wide, tall, deep = 1.3 * wide, 1.3 * tall, rng.uniform(0.03, 0.08)
        if rng.random() < 0.3:  # lies flat
            tall, deep = deep, tall
    return wide, tall, deep


def _object(
    rng: random.Random, noun: str, kind: Kind, middle: tuple[float, float], room: Room, name: str, other: str
) -> tuple[SceneObject, str]:
    # The order of random draws is the format; see the top of the file.
    ceiling, floor = room.low[1], room.high[1]
    size = _size(rng, noun, floor - ceiling)
    half = size[0] if kind == "sphere" else size[1]
    tumbling = noun in ("box", "cylinder", "slab") and rng.random() < 0.3
    lift = math.sqrt(sum(part * part for part in size)) + rng.uniform(0.05, 0.5) if tumbling else half
    x, z = middle
    y = floor - lift
    speed = 10 ** rng.uniform(-2.0, -0.95) if rng.random() < 0.72 else 0.0
    heading = rng.uniform(0, 2 * math.pi)
    velocity = (math.cos(heading) * speed, 0.0, math.sin(heading) * speed)
    room_above = max(y - lift - ceiling, 0.0)
    hops = noun != "pole" and room_above > 0.3 and rng.random() < (0.3 if speed else 0.7)
    axis: Vector = (0.0, 1.0, 0.0)
    if tumbling or kind == "sphere":
        axis = (rng.gauss(0, 1), rng.gauss(0, 1), rng.gauss(0, 1))
    pattern = rng.choices(list(_OBJECT_PATTERNS), list(_OBJECT_PATTERNS.values()))[0]
    texture = _texture(rng, pattern, named_colour(rng, name), named_colour(rng, other), on_object=True)
    if kind == "box" and pattern == "striped":
        texture = replace(texture, turn_degrees=rng.choice((0.0, 45.0, 90.0, -45.0)))
    margin, around = rng.uniform(0.4, 0.9), lift if tumbling else math.hypot(size[0], size[2])
    side, front, back = room.high[0] - around, CAMERA_LIMIT + 0.3 + around, room.high[2] - around
    x, z = min(max(x, -side), side), min(max(z, front), back)
    item = SceneObject(
        kind=kind,
        size=size,
        position=(x, y, z),
        velocity=velocity,
        low=(max(x - margin, -side), y, max(z - margin, front)),
        high=(min(x + margin, side), y, min(z + margin, back)),
        hop_height=min(rng.uniform(0.2, 1.0), room_above) if hops else 0.0,
        hop_rate=rng.uniform(0.025, 0.11),
        hop_phase=rng.random(),
        axis=axis,
        angle_degrees=rng.uniform(0, 360),
        spin_degrees=rng.uniform(0.5, 7.0) * rng.choice((-1, 1)),
        texture=texture,
    )
    looks = {"plain": name, "photographed": pattern}.get(pattern, f"{name} and {other} {pattern}")
    return item, phrase(looks, noun, action(velocity, hops, tumbling))


def _texture(rng: random.Random, pattern: str, first: Vector, second: Vector, on_object: bool) -> Texture:
    cells, grain = (
        (rng.uniform(1.6, 4.5), rng.uniform(0.1, 0.7)) if on_object else (rng.uniform(0.7, 2.1), 0.0)
    )
    if not on_object:
        grain = rng.uniform(0.15, 1.0)
        cells *= 1.7 if pattern == "bricked" else 1.0
    if pattern == "photographed":
        cells, grain = rng.uniform(0.5, 1.5) if on_object else rng.uniform(0.18, 0.55), rng.uniform(0, 0.25)
        first = blend((1.15, 1.15, 1.15), first, rng.random() ** 2 * 0.6)
    return Texture(
        pattern=pattern,
        colours=(first, second),
        cells=cells,
        turn_degrees=rng.choice((0.0, 90.0)),
        grain=grain,
        phase=(rng.uniform(0, 5), rng.uniform(0, 5), rng.uniform(0, 5)),
    )


def _room(rng: random.Random) -> Room:
    """Return a room of random size; faces have their own patterns, or (one in three) share one."""
    patterns = rng.choices(list(_FACE_PATTERNS), list(_FACE_PATTERNS.values()), k=6)
    names = rng.sample(WALL_COLOURS, 6)
    matched = rng.random() < 0.35
    if matched:
        patterns, names = [patterns[5]] * 6, [names[5]] * 6
    textures: list[Texture] = []
    for pattern, name in zip(patterns, names):
        base = blend(named_colour(rng, name), (0.92, 0.90, 0.86), rng.uniform(0.1, 0.9))
        second = blend(
            base, named_colour(rng, names[0] if matched else rng.choice(WALL_COLOURS)), rng.uniform(0.4, 0.9)
        )
        dark = blend(second, (0.15, 0.13, 0.15), rng.uniform(0.2, 0.55))
        texture = _texture(rng, pattern, base, dark, on_object=False)
        if matched and textures:
            first = textures[0]
            texture = replace(texture, cells=first.cells, phase=(*texture.phase[:2], first.phase[2]))
        textures.append(texture)
    side, back = rng.uniform(3.0, 5.6), rng.uniform(6.2, 9.5)
    low = (-side, -rng.uniform(2.0, 3.6), -rng.uniform(2.4, 3.8))
    return Room(low, (side, rng.uniform(1.15, 1.9), back), tuple(textures))


def _camera(rng: random.Random, moves: bool, room: Room, fov_degrees: float) -> SourceCamera:
    position = (rng.uniform(-0.9, 0.9), rng.uniform(-0.9, 0.25), rng.uniform(-1.0, 0.5))
    target = (rng.uniform(-0.6, 0.6), rng.uniform(0.0, 0.9), rng.uniform(4.0, 5.2))
    still = (0.0, 0.0, 0.0)
    if not moves:
        return SourceCamera(position, target, still, still, 56.0, fov_degrees)
    travel, pan = rng.uniform(0.3, 1.3), rng.uniform(0.0, 1.6)
    wanted = _direction(rng, (travel, 0.45 * travel, 0.7 * travel))
    high = (room.high[0], room.high[1], CAMERA_LIMIT + 0.4)
    sway = [
        math.copysign(min(abs(amount), top - 0.4 - here, here - bottom - 0.4), amount)
        for amount, here, bottom, top in zip(wanted, position, room.low, high)
    ]
    look = _direction(rng, (pan, 0.35 * pan, 0.2 * pan))
    return SourceCamera(
        position, target, (sway[0], sway[1], sway[2]), look, rng.uniform(40, 120), fov_degrees
    )


def _direction(rng: random.Random, stretch: Vector) -> Vector:
    x, y, z = (rng.gauss(0, 1) for _ in range(3))
    length = math.sqrt(x * x + y * y + z * z)
    return x / length * stretch[0], y / length * stretch[1], z / length * stretch[2]


def named_colour(rng: random.Random, name: str) -> Vector:
    hue, saturation, value = COLOURS[name]
    return colorsys.hsv_to_rgb(
        (hue + rng.uniform(-7, 7)) % 360 / 360,
        min(saturation * rng.uniform(0.8, 1.15), 1.0),
        min(value * rng.uniform(0.88, 1.05), 1.0),
    )


def blend(colour: Vector, towards: Vector, share: float) -> Vector:
    red, green, blue = (a + (b - a) * share for a, b in zip(colour, towards))
    return red, green, blue
