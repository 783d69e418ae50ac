"""Assemble scenes from their parts: one scene, or a batch whose objects share slots, as tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recapture.datasets.scenes.keyed import POSE, pose_keys
from recapture.datasets.scenes.layout import (
    KINDS,
    PATTERNS,
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


def make_scene(
    objects: Sequence[SceneObject],
    room: Room | None = None,
    camera: SourceCamera | None = None,
    light: Vector = (-0.45, -0.8, -0.55),
    caption: str = "",
    lighting: Lighting | None = None,
) -> Scene:
    """Return a scene of these objects; the first object has id 1, the second id 2, and so on.

    Raises: ValueError for an unknown kind or pattern, a size that is not positive, or a flat room.
    """
    _check(objects, room or Room())
    room, camera, lighting = room or Room(), camera or SourceCamera(), lighting or Lighting()
    columns = scene_columns([room], [camera], [light], [lighting])
    arrays = {name: value[0] for name, value in columns.items()} | object_columns(objects)
    arrays |= texture_columns([*room.textures, *(item.texture for item in objects)])
    arrays |= path_columns([item.path for item in objects])
    tensors = {name: to_tensor(value) for name, value in arrays.items()}
    return Scene(
        tuple(item.kind for item in objects), (caption,), pattern_names(arrays["pattern"]), **tensors
    )


def pack_into_slots(
    slots: Sequence[Kind],
    captions: Sequence[str],
    objects: Sequence[Sequence[SceneObject]],
    rooms: Sequence[Room],
    cameras: Sequence[SourceCamera],
    lights: Sequence[Vector],
    lightings: Sequence[Lighting],
) -> Scene:
    """Return a batch of scenes with given object slots: stack_scenes of make_scene, but many times faster.

    Raises: ValueError as make_scene does, and if a scene has more objects of a kind than there are slots.
    """
    starts = {kind: [slot for slot, other in enumerate(slots) if other == kind] for kind in KINDS}
    places, labels = [], []
    for index, (items, room) in enumerate(zip(objects, rooms)):
        _check(items, room)
        if any(item.path for item in items):
            raise ValueError(f"scene {index}: a body has a keyed path; draw this scene alone")
        free = {kind: iter(starts[kind]) for kind in KINDS}
        for label, item in enumerate(items, start=1):
            slot = next(free[item.kind], None)
            if slot is None:
                raise ValueError(f"scene {index}: more than {len(starts[item.kind])} of kind {item.kind}")
            places.append(index * len(slots) + slot)
            labels.append(label)
    count, flat = len(rooms), [item for items in objects for item in items]
    arrays = scene_columns(rooms, cameras, lights, lightings)
    columns = object_columns(flat) | {"label": np.asarray(labels, dtype=np.int64)}
    faces = texture_columns([texture for room in rooms for texture in room.textures])
    skins = texture_columns([item.texture for item in flat])
    for name, value in (columns | skins).items():
        blank = np.ones if value.dtype == np.float64 else np.zeros
        slotted = blank((count * len(slots), *value.shape[1:]), dtype=value.dtype)
        slotted[places] = value
        arrays[name] = slotted.reshape(count, len(slots), *value.shape[1:])
    for name, value in faces.items():
        own = value.reshape(count, ROOM_FACES, *value.shape[1:])
        arrays[name] = np.concatenate([own, arrays[name]], axis=1)
    tensors = {name: to_tensor(value) for name, value in arrays.items()}
    used = pattern_names(np.concatenate([faces["pattern"], skins["pattern"]]))
    return Scene(tuple(slots), tuple(captions), used, **tensors)


def pattern_names(indices: np.ndarray) -> frozenset[str]:
    return frozenset(PATTERNS[index] for index in np.unique(indices))


def stack_scenes(scenes: Sequence[Scene]) -> Scene:
    """Return a batch of single scenes, their objects sorted into common slots; unused slots are inactive."""
    if any(scene.batched for scene in scenes):
        raise ValueError("stack_scenes takes single scenes, got a batch")
    if any(scene.keys is not None for scene in scenes):
        raise ValueError("stack_scenes takes no keyed paths, which batches cannot share; render these alone")
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
    tensors = scene.tensors()
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


def to_tensor(array: np.ndarray) -> Tensor:
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


def object_columns(objects: Sequence[SceneObject]) -> dict[str, np.ndarray]:
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


def path_columns(paths: Sequence[Sequence[Vector]], step: float = 1.0) -> dict[str, np.ndarray]:
    """Return the keys of bodies with these paths, `step` frames apart; nothing where none has any.

    Raises: ValueError for paths of different lengths.
    """
    if not any(paths):
        return {}
    tracks = [np.pad(_rows(path, 3), ((0, 0), (0, POSE - 3))) for path in paths]
    return {"keys": pose_keys(tracks), "key_step": np.asarray([step], dtype=np.float64)}


def texture_columns(textures: Sequence[Texture]) -> dict[str, np.ndarray]:
    laying = _rows([(t.cells, t.turn_degrees, t.grain, *t.phase) for t in textures], 6)
    laying[:, 1] = np.radians(laying[:, 1])
    return {
        "pattern": np.asarray([PATTERNS.index(t.pattern) for t in textures], dtype=np.int64),
        "colours": np.asarray([t.colours for t in textures], dtype=np.float64).reshape(-1, 2, 3),
        "laying": laying,
    }


def scene_columns(
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
