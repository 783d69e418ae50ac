"""What a procedural scene is made of, and its packing into tensors.

The world has OpenCV axes (x right, y down, z forward); lengths are scene units, time is counted in frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

Kind = Literal["sphere", "box", "cylinder"]
KINDS: tuple[Kind, ...] = ("sphere", "box", "cylinder")
PATTERNS = (
    "marbled",
    "checkered",
    "striped",
    "dotted",
    "bricked",
    "plain",  # the first colour alone
    "photographed",  # a photograph (phase z in 0..5 chooses it), one a cell, multiplied by the first colour
    "waved",
    "speckled",
)
Vector = tuple[float, float, float]

ROOM_FACES = 6  # in the order -x, +x, -y (ceiling), +y (floor), -z (behind), +z (back wall)


@dataclass(frozen=True)
class Texture:
    """A surface pattern: two colours in [0, 1], its cells per scene unit, and how it is laid."""

    pattern: str = "marbled"
    colours: tuple[Vector, Vector] = ((0.8, 0.5, 0.3), (0.3, 0.2, 0.15))
    cells: float = 2.0
    turn_degrees: float = 0.0
    grain: float = 0.5
    phase: Vector = (0.37, 0.61, 0.23)


@dataclass(frozen=True)
class SceneObject:
    """One moving, spinning body.

    size: (radius, -, -) of a sphere, half extents of a box, (radius, half height, -) of a cylinder,
    whose axis is its own y. The centre travels from `position` along `velocity` (units a frame) and is
    reflected at `low` and `high`; on top of that it hops `hop_height` upwards, `hop_rate` times a frame.
    """

    kind: Kind
    size: Vector
    position: Vector
    velocity: Vector = (0.0, 0.0, 0.0)
    low: Vector = (-50.0, -50.0, -50.0)
    high: Vector = (50.0, 50.0, 50.0)
    hop_height: float = 0.0
    hop_rate: float = 0.0
    hop_phase: float = 0.0
    axis: Vector = (0.0, 1.0, 0.0)
    angle_degrees: float = 0.0
    spin_degrees: float = 0.0
    texture: Texture = field(default_factory=Texture)


@dataclass(frozen=True)
class Room:
    """The box that everything happens in; one texture a face, in the order of ROOM_FACES."""

    low: Vector = (-4.5, -3.2, -4.0)
    high: Vector = (4.5, 1.3, 7.0)
    textures: tuple[Texture, ...] = (Texture(),) * ROOM_FACES


@dataclass(frozen=True)
class SourceCamera:
    """Where the source camera stands and looks; both ends sway as a sine over `period` frames."""

    position: Vector = (0.0, -0.3, 0.0)
    target: Vector = (0.0, 0.3, 4.0)
    position_sway: Vector = (0.0, 0.0, 0.0)
    target_sway: Vector = (0.0, 0.0, 0.0)
    period: float = 48.0
    fov_degrees: float = 60.0


@dataclass(frozen=True)
class Lighting:
    """How a scene is lit: light from everywhere, light from the scene's direction, and the light's colour."""

    ambient: float = 0.62
    direct: float = 0.42
    colour: Vector = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Scene:
    """A 4D scene as tensors, or B of them with a leading dimension B.

    `kinds` names the object slots; scenes of one batch share it and switch slots off with `active`.
    `label` is the object id that a slot is rendered with (0 is the room).
    """

    kinds: tuple[Kind, ...]  # N
    captions: tuple[str, ...]  # one a scene
    patterns: frozenset[str]  # every pattern that occurs (more are allowed, and cost time)
    room_low: Tensor  # [..., 3]
    room_high: Tensor  # [..., 3]
    active: Tensor  # [..., N] bool
    label: Tensor  # [..., N] int64
    size: Tensor  # [..., N, 3]
    position: Tensor  # [..., N, 3]
    velocity: Tensor  # [..., N, 3]
    low: Tensor  # [..., N, 3]
    high: Tensor  # [..., N, 3]
    hop: Tensor  # [..., N, 3] height, rate, phase
    axis: Tensor  # [..., N, 3] unit
    spin: Tensor  # [..., N, 2] radians at time 0, radians a frame
    pattern: Tensor  # [..., 6 + N] int64, index into PATTERNS
    colours: Tensor  # [..., 6 + N, 2, 3]
    laying: Tensor  # [..., 6 + N, 6] cells a unit, turn (radians), grain, phase x, y, z
    light: Tensor  # [..., 3] unit, towards the light
    lighting: Tensor  # [..., 5] ambient, direct, colour as red, green, blue
    camera: Tensor  # [..., 4, 3] position, target, and the sway of each
    lens: Tensor  # [..., 2] field of view in degrees, sway period in frames

    @property
    def batched(self) -> bool:
        return self.room_low.ndim == 2

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Scene:
        """The same scene on another device, its real numbers in another precision."""
        moved: dict[str, Any] = {}
        for name, value in _tensors(self).items():
            moved[name] = value.to(device=device, dtype=dtype if value.is_floating_point() else None)
        return replace(self, **moved)

    def as_batch(self) -> Scene:
        """This scene with a leading batch dimension (of 1 if it had none)."""
        if self.batched:
            return self
        lifted: dict[str, Any] = {name: value[None] for name, value in _tensors(self).items()}
        return replace(self, **lifted)

    def take(self, index: Tensor, captions: Sequence[str]) -> Scene:
        """The scenes index [B] of this batch; captions: theirs, as the index may lie on a device."""
        taken: dict[str, Any] = {name: value[index] for name, value in _tensors(self).items()}
        return replace(self, captions=tuple(captions), **taken)


def _tensors(scene: Scene) -> dict[str, Tensor]:
    values = {f.name: getattr(scene, f.name) for f in fields(scene)}
    return {name: value for name, value in values.items() if isinstance(value, Tensor)}


def make_scene(
    objects: Sequence[SceneObject],
    room: Room | None = None,
    camera: SourceCamera | None = None,
    light: Vector = (-0.45, -0.8, -0.55),
    caption: str = "",
    lighting: Lighting | None = None,
) -> Scene:
    """A scene of these objects; the first object is rendered with id 1, the second with id 2 and so on.

    Raises: ValueError for an unknown kind or pattern, a size that is not positive, or a flat room.
    """
    _check(objects, room or Room())
    room, camera, lighting = room or Room(), camera or SourceCamera(), lighting or Lighting()
    columns = _scene_columns([room], [camera], [light], [lighting])
    arrays = {name: value[0] for name, value in columns.items()} | _object_columns(objects)
    arrays |= _texture_columns([*room.textures, *(item.texture for item in objects)])
    tensors = {name: _tensor(value) for name, value in arrays.items()}
    return Scene(tuple(item.kind for item in objects), (caption,), _patterns(arrays["pattern"]), **tensors)


def pack_into_slots(
    slots: Sequence[Kind],
    captions: Sequence[str],
    objects: Sequence[Sequence[SceneObject]],
    rooms: Sequence[Room],
    cameras: Sequence[SourceCamera],
    lights: Sequence[Vector],
    lightings: Sequence[Lighting],
) -> Scene:
    """A batch of scenes whose objects lie in given slots: stack_scenes of make_scene, but many times faster.

    Raises: ValueError as make_scene does, and where a scene has more objects of a kind than there are slots.
    """
    starts = {kind: [slot for slot, other in enumerate(slots) if other == kind] for kind in KINDS}
    places, labels = [], []
    for index, (items, room) in enumerate(zip(objects, rooms)):
        _check(items, room)
        free = {kind: iter(starts[kind]) for kind in KINDS}
        for label, item in enumerate(items, start=1):
            slot = next(free[item.kind], None)
            if slot is None:
                raise ValueError(f"scene {index}: more than {len(starts[item.kind])} of kind {item.kind}")
            places.append(index * len(slots) + slot)
            labels.append(label)
    count, flat = len(rooms), [item for items in objects for item in items]
    arrays = _scene_columns(rooms, cameras, lights, lightings)
    columns = _object_columns(flat) | {"label": np.asarray(labels, dtype=np.int64)}
    faces = _texture_columns([texture for room in rooms for texture in room.textures])
    skins = _texture_columns([item.texture for item in flat])
    for name, value in (columns | skins).items():
        blank = np.ones if value.dtype == np.float64 else np.zeros
        slotted = blank((count * len(slots), *value.shape[1:]), dtype=value.dtype)
        slotted[places] = value
        arrays[name] = slotted.reshape(count, len(slots), *value.shape[1:])
    for name, value in faces.items():
        own = value.reshape(count, ROOM_FACES, *value.shape[1:])
        arrays[name] = np.concatenate([own, arrays[name]], axis=1)
    tensors = {name: _tensor(value) for name, value in arrays.items()}
    used = _patterns(np.concatenate([faces["pattern"], skins["pattern"]]))
    return Scene(tuple(slots), tuple(captions), used, **tensors)


def _patterns(indices: np.ndarray) -> frozenset[str]:
    return frozenset(PATTERNS[index] for index in np.unique(indices))


def stack_scenes(scenes: Sequence[Scene]) -> Scene:
    """One batch of single scenes, their objects sorted into common slots; missing objects are inactive."""
    if any(scene.batched for scene in scenes):
        raise ValueError("stack_scenes: takes single scenes, got a batch")
    kinds: list[Kind] = []
    for kind in KINDS:
        kinds += [kind] * max(scene.kinds.count(kind) for scene in scenes)
    slotted = [_into_slots(scene, kinds) for scene in scenes]
    stacked = {name: torch.stack([one[name] for one in slotted]) for name in slotted[0]}
    captions = tuple(scene.captions[0] for scene in scenes)
    return Scene(tuple(kinds), captions, frozenset[str]().union(*(s.patterns for s in scenes)), **stacked)


def _into_slots(scene: Scene, kinds: Sequence[Kind]) -> dict[str, Tensor]:
    sources = []
    for kind in KINDS:
        own = [index for index, other in enumerate(scene.kinds) if other == kind]
        sources += own + [-1] * (list(kinds).count(kind) - len(own))
    taken = torch.tensor([max(index, 0) for index in sources], dtype=torch.int64)
    present = torch.tensor([index >= 0 for index in sources], dtype=torch.bool)
    tensors = _tensors(scene)
    for name in ("active", "label", "size", "position", "velocity", "low", "high", "hop", "axis", "spin"):
        value = tensors[name]
        tensors[name] = value[taken] if scene.kinds else _blank_like(value, len(kinds))
    tensors["active"] = tensors["active"] & present
    for name in ("pattern", "colours", "laying"):
        faces, own_objects = tensors[name][:ROOM_FACES], tensors[name][ROOM_FACES:]
        rest = own_objects[taken] if scene.kinds else _blank_like(own_objects, len(kinds))
        tensors[name] = torch.cat([faces, rest])
    return tensors


def _blank_like(value: Tensor, count: int) -> Tensor:
    return value.new_ones((count, *value.shape[1:])) if value.dtype != torch.int64 else value.new_zeros(count)


def _tensor(array: np.ndarray) -> Tensor:
    real = np.issubdtype(array.dtype, np.floating)
    return torch.from_numpy(array.astype(np.float32) if real else array)


def _check(objects: Sequence[SceneObject], room: Room) -> None:
    for index, item in enumerate(objects):
        if item.kind not in KINDS:
            raise ValueError(f"object {index}: kind is {item.kind!r}; use one of {', '.join(KINDS)}")
        used = {"sphere": 1, "cylinder": 2, "box": 3}[item.kind]
        if min(item.size[:used]) <= 0:
            raise ValueError(f"object {index} ({item.kind}): size {item.size} must be positive")
    if any(low >= high for low, high in zip(room.low, room.high)) or len(room.textures) != ROOM_FACES:
        raise ValueError(f"room: from {room.low} to {room.high} with {len(room.textures)} textures; needs 6")
    unknown = {t.pattern for t in (*room.textures, *(item.texture for item in objects))} - set(PATTERNS)
    if unknown:
        raise ValueError(f"unknown pattern {sorted(unknown)}; use one of {', '.join(PATTERNS)}")


def _rows(values: Sequence[Any], width: int) -> np.ndarray:
    return np.asarray(values, dtype=np.float64).reshape(len(values), width)


def _object_columns(objects: Sequence[SceneObject]) -> dict[str, np.ndarray]:
    axis = _rows([item.axis for item in objects], 3)
    return {
        "active": np.ones(len(objects), dtype=bool),
        "label": np.arange(1, len(objects) + 1, dtype=np.int64),
        "size": _rows([item.size for item in objects], 3),
        "position": _rows([item.position for item in objects], 3),
        "velocity": _rows([item.velocity for item in objects], 3),
        "low": _rows([item.low for item in objects], 3),
        "high": _rows([item.high for item in objects], 3),
        "hop": _rows([(item.hop_height, item.hop_rate, item.hop_phase) for item in objects], 3),
        "axis": axis / np.linalg.norm(axis, axis=1, keepdims=True).clip(1e-12),
        "spin": np.radians(_rows([(item.angle_degrees, item.spin_degrees) for item in objects], 2)),
    }


def _texture_columns(textures: Sequence[Texture]) -> dict[str, np.ndarray]:
    laying = _rows([(t.cells, t.turn_degrees, t.grain, *t.phase) for t in textures], 6)
    laying[:, 1] = np.radians(laying[:, 1])
    return {
        "pattern": np.asarray([PATTERNS.index(t.pattern) for t in textures], dtype=np.int64),
        "colours": np.asarray([t.colours for t in textures], dtype=np.float64).reshape(-1, 2, 3),
        "laying": laying,
    }


def _scene_columns(
    rooms: Sequence[Room],
    cameras: Sequence[SourceCamera],
    lights: Sequence[Vector],
    lightings: Sequence[Lighting],
) -> dict[str, np.ndarray]:
    return {
        "room_low": _rows([room.low for room in rooms], 3),
        "room_high": _rows([room.high for room in rooms], 3),
        "light": np.stack([np.asarray(light) / np.linalg.norm(light) for light in lights]),
        "lighting": _rows([(one.ambient, one.direct, *one.colour) for one in lightings], 5),
        "camera": np.asarray([(c.position, c.target, c.position_sway, c.target_sway) for c in cameras]),
        "lens": _rows([(c.fov_degrees, c.period) for c in cameras], 2),
    }
