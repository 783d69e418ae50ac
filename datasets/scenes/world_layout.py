"""What a scene of the variety "world" has beyond the others: actors of several parts, air, camera path, film.

An actor is a root that travels and turns as a `SceneObject` does, and parts that hang on it. A part swings on
one joint and bends on a second one, both about the actor's x axis; a rigid part does neither. The actor
faces its own +z; y is down.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from recapture.datasets.scenes.assemble import (
    object_columns,
    pattern_names,
    scene_columns,
    texture_columns,
    to_tensor,
)
from recapture.datasets.scenes.keyed import POSE, pose_keys
from recapture.datasets.scenes.layout import (
    ROOM_FACES,
    Kind,
    Lighting,
    Room,
    Scene,
    SceneObject,
    SourceCamera,
    Texture,
    Vector,
)

# A batch has one slot for each; what does not fit is left out of the scene when it is drawn.
CAPACITY: dict[Kind, int] = {"box": 16, "cylinder": 8, "ellipsoid": 8, "capsule": 18}
SLOTS: tuple[Kind, ...] = tuple(kind for kind, count in CAPACITY.items() for _ in range(count))


@dataclass(frozen=True)
class Part:
    """One body of an actor; size as in SceneObject, and half axes of an ellipsoid.

    A capsule has a radius and the half length of its axis (its own y) without the round ends.
    The first joint is at `pivot`; `drop` below it, along the swung limb, is the second joint; the part's
    centre is `offset` from there. swing: rest angle and amplitude (degrees), cycles per frame, phase
    (cycles). bend: rest angle and amplitude (degrees), phase. turn: rotation vector (degrees) of the part
    about its own centre.
    """

    kind: Kind
    size: Vector
    offset: Vector
    texture: Texture = field(default_factory=Texture)
    pivot: Vector = (0.0, 0.0, 0.0)
    swing: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    drop: float = 0.0
    bend: Vector = (0.0, 0.0, 0.0)
    turn: Vector = (0.0, 0.0, 0.0)
    gloss: tuple[float, float] = (0.08, 16.0)  # strength and exponent of the highlight
    glow: float = 0.0  # light of its own
    poses: tuple[tuple[float, float], ...] = ()  # keys of the angles (degrees) added to swing and bend


@dataclass(frozen=True)
class Actor:
    """Parts that share an object id; without words they are scenery, whose id is 0.

    path: keys of a displacement that is added to all other motion; turns: keys of degrees that are added to
    the heading. Keys are `WorldScene.key_step` frames apart; all keyed tracks of a scene have as many.
    """

    parts: tuple[Part, ...]
    position: Vector
    words: str = ""
    velocity: Vector = (0.0, 0.0, 0.0)
    low: Vector = (-500.0, -500.0, -500.0)
    high: Vector = (500.0, 500.0, 500.0)
    hop: Vector = (0.0, 0.0, 0.0)  # height, rate, phase
    axis: Vector = (0.0, 1.0, 0.0)
    heading_degrees: float = 0.0
    spin_degrees: float = 0.0  # per frame
    path: tuple[Vector, ...] = ()
    turns: tuple[float, ...] = ()


@dataclass(frozen=True)
class Air:
    """Sky, haze and shadows. Indoors, the room's faces are walls; outdoors, all but the floor are the sky."""

    outdoors: bool = True
    haze: float = 0.02  # share of the light that is lost per unit is 1 - exp(-haze)
    softness: float = 0.15  # width of a penumbra per unit of distance to the body that casts it
    shadow: float = 0.9  # share of the direct light that a shadow takes
    clouds: float = 0.4  # share of the sky
    cloud_cells: float = 1.0
    cloud_phase: float = 0.0
    glow: float = 0.3  # of the sun
    zenith: Vector = (0.25, 0.45, 0.85)
    horizon: Vector = (0.75, 0.82, 0.9)


@dataclass(frozen=True)
class CameraPath:
    """How the camera moves from its start: every rate eases off as its limit is approached."""

    velocity: Vector = (0.0, 0.0, 0.0)  # units per frame
    limit: float = 1.5  # units
    yaw: float = 0.0  # degrees per frame, positive to the right
    pitch: float = 0.0  # degrees per frame, positive upwards
    turn_limit: float = 30.0  # degrees
    zoom: float = 0.0  # relative change of the focal length per frame
    shake: float = 0.0  # degrees
    shake_phase: float = 0.0


@dataclass(frozen=True)
class Film:
    """What the camera does to the picture; depth and ids stay exact."""

    exposure: float = 0.0  # amplitude of its drift, relative
    exposure_period: float = 60.0  # frames
    exposure_phase: float = 0.0  # cycles
    aperture: float = 0.0  # blur at twice the focus distance, as a share of the focal length
    focus: float = 4.0  # units
    focus_speed: float = 0.0  # relative change per frame
    noise: float = 0.0  # standard deviation of the sensor's noise, in [0, 1]
    grade: float = 1.0  # gamma


@dataclass(frozen=True)
class WorldScene:
    """A drawn scene, before it becomes tensors."""

    actors: list[Actor]
    room: Room
    camera: SourceCamera
    light: Vector
    lighting: Lighting
    air: Air
    path: CameraPath
    film: Film
    caption: str
    shot: tuple[tuple[float, ...], ...] = ()  # keys of the camera, as Scene.shot; in place of camera and path
    key_step: float = 1.0  # frames from one key to the next

    def scene(self) -> Scene:
        """Return the scene as tensors."""
        kinds = tuple(part.kind for actor in self.actors for part in actor.parts)
        ordered = tuple(kind for kind in CAPACITY for _ in range(kinds.count(kind)))
        return stack_world([self], ordered).single()


def stack_world(drawn: Sequence[WorldScene], slots: Sequence[Kind] = SLOTS) -> Scene:
    """Return a batch of drawn scenes with these object slots.

    Raises: ValueError if a scene has more parts of a kind than there are slots.
    """
    places, labels, roots, parts = [], [], [], []
    starts = {kind: [slot for slot, other in enumerate(slots) if other == kind] for kind in CAPACITY}
    for index, one in enumerate(drawn):
        free = {kind: iter(slots_of) for kind, slots_of in starts.items()}
        label = 0
        for actor in one.actors:
            label += bool(actor.words)
            for part in actor.parts:
                slot = next(free[part.kind], None)
                if slot is None:
                    raise ValueError(f"scene {index}: more than {len(starts[part.kind])} of kind {part.kind}")
                places.append(index * len(slots) + slot)
                labels.append(label if actor.words else 0)
                roots.append(_root(actor, part))
                parts.append(part)
    columns = object_columns(roots) | {"label": np.asarray(labels, dtype=np.int64), "limb": _limbs(parts)}
    columns |= texture_columns([part.texture for part in parts])
    columns |= _keys([(actor, part) for one in drawn for actor in one.actors for part in actor.parts])
    columns["gloss"] = np.asarray([(*part.gloss, part.glow) for part in parts], dtype=np.float64).reshape(
        -1, 3
    )
    faces = texture_columns([texture for one in drawn for texture in one.room.textures])
    faces["gloss"] = np.tile([[0.0, 16.0, 0.0]], (len(drawn) * ROOM_FACES, 1))
    arrays = _per_scene(drawn)
    if "keys" in columns or "shot" in arrays:
        arrays["key_step"] = np.asarray([[one.key_step] for one in drawn])
    for name, value in columns.items():
        blank = np.ones if value.dtype == np.float64 else np.zeros
        slotted = blank((len(drawn) * len(slots), *value.shape[1:]), dtype=value.dtype)
        slotted[places] = value
        arrays[name] = slotted.reshape(len(drawn), len(slots), *value.shape[1:])
    for name, value in faces.items():
        own = value.reshape(len(drawn), ROOM_FACES, *value.shape[1:])
        arrays[name] = np.concatenate([own, arrays[name]], axis=1)
    tensors: dict[str, Any] = {name: to_tensor(value) for name, value in arrays.items()}
    used = pattern_names(np.concatenate([faces["pattern"], columns["pattern"]]))
    return Scene(tuple(slots), tuple(one.caption for one in drawn), used, **tensors)


def _root(actor: Actor, part: Part) -> SceneObject:
    return SceneObject(
        kind=part.kind,
        size=part.size,
        position=actor.position,
        velocity=actor.velocity,
        low=actor.low,
        high=actor.high,
        hop_height=actor.hop[0],
        hop_rate=actor.hop[1],
        hop_phase=actor.hop[2],
        axis=actor.axis,
        angle_degrees=actor.heading_degrees,
        spin_degrees=actor.spin_degrees,
    )


def _limbs(parts: Sequence[Part]) -> np.ndarray:
    rows = [
        (
            *part.pivot,
            *np.radians(part.swing[:2]),
            *part.swing[2:],
            part.drop,
            *np.radians(part.bend[:2]),
            part.bend[2],
            *part.offset,
            *np.radians(part.turn),
        )
        for part in parts
    ]
    return np.asarray(rows, dtype=np.float64).reshape(len(parts), 17)


def _keys(held: Sequence[tuple[Actor, Part]]) -> dict[str, np.ndarray]:
    """Return the keys of parts and the actors that they hang on; nothing where none has any."""
    tracks = []
    for actor, part in held:
        count = max(len(actor.path), len(actor.turns), len(part.poses))
        given = {len(actor.path), len(actor.turns), len(part.poses)} - {0, count}
        if given:
            raise ValueError(f"an actor has tracks of {count} and of {min(given)} keys; give all as many")
        track = np.zeros((count, POSE))
        if actor.path:
            track[:, :3] = actor.path
        if actor.turns:
            track[:, 3] = np.radians(actor.turns)
        if part.poses:
            track[:, 4:] = np.radians(part.poses)
        tracks.append(track)
    return {"keys": pose_keys(tracks)} if any(len(track) for track in tracks) else {}


def _per_scene(drawn: Sequence[WorldScene]) -> dict[str, np.ndarray]:
    columns = scene_columns(
        [one.room for one in drawn],
        [one.camera for one in drawn],
        [one.light for one in drawn],
        [one.lighting for one in drawn],
    )
    columns["air"] = np.asarray([_air_row(one.air) for one in drawn], dtype=np.float64)
    columns["path"] = np.asarray([_path_row(one.path) for one in drawn], dtype=np.float64)
    columns["film"] = np.asarray([tuple(vars(one.film).values()) for one in drawn], dtype=np.float64)
    if any(one.shot for one in drawn):
        columns["shot"] = np.asarray([one.shot for one in drawn], dtype=np.float64)
    return columns


def _air_row(air: Air) -> tuple[float, ...]:
    plain = (float(air.outdoors), air.haze, air.softness, air.shadow, air.clouds, air.cloud_cells)
    return (*plain, air.cloud_phase, air.glow, *air.zenith, *air.horizon)


def _path_row(path: CameraPath) -> tuple[float, ...]:
    return (*path.velocity, *(value for name, value in vars(path).items() if name != "velocity"))
