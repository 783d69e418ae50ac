"""Cast rays into a procedural scene at a given time: what each one meets first, and how far away.

A ray's direction has z = 1 in its camera, so the ray parameter is the camera's z-depth.
Rays come as whole views [F, P] or scattered [M]; `view` ([F, 1] or [M]) is the index of each ray's frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from recapture.datasets.scenes.layout import Scene
from recapture.datasets.scenes.poses import object_poses

NEAR = 1e-3

Components = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Frames:
    """The scene at the time of each of F views. Bodies: 0 is the room, 1 + n is object slot n."""

    kinds: tuple[str, ...]  # N
    patterns: frozenset[str]  # as Scene.patterns
    active: Tensor  # [F, 1 + N] bool
    label: Tensor  # [F, 1 + N] object ids
    size: Tensor  # [F, 1 + N, 3] as SceneObject.size; the room's half extents
    centre: Tensor  # [F, 1 + N, 3]
    rotation: Tensor  # [F, 1 + N, 3, 3] body to world
    pattern: Tensor  # [F, 6 + N]
    colours: Tensor  # [F, 6 + N, 2, 3]
    laying: Tensor  # [F, 6 + N, 6]
    light: Tensor  # [F, 3]
    lighting: Tensor  # [F, 5]
    gloss: Tensor | None = None  # [F, 6 + N, 3], and air [F, 14], only of the variety "world"
    air: Tensor | None = None


@dataclass(frozen=True)
class Rays:
    """Origins and directions (camera z = 1) as components, and how the direction changes per pixel."""

    view: Tensor  # [F, 1] for rays [F, P], [M] for rays [M]
    origin: Components
    direction: Components
    per_column: Components
    per_row: Components


def freeze(scene: Scene, times: Tensor) -> Frames:
    """Return a batch of B scenes at times [B, T], as F = B * T frozen frames."""
    frames = times.shape[1]
    centre, rotation = object_poses(scene, times)
    eye = torch.eye(3, dtype=rotation.dtype, device=rotation.device).expand(*times.shape, 1, 3, 3)
    room = (scene.room_low + scene.room_high)[:, None, None] / 2
    half = (scene.room_high - scene.room_low)[:, None] / 2

    def repeat(value: Tensor) -> Tensor:
        return value.repeat_interleave(frames, dim=0)

    return Frames(
        kinds=scene.kinds,
        patterns=scene.patterns,
        active=repeat(torch.nn.functional.pad(scene.active, (1, 0), value=True)),
        label=repeat(torch.nn.functional.pad(scene.label, (1, 0))),
        size=repeat(torch.cat([half, scene.size], dim=1)),
        centre=torch.cat([room.expand(-1, frames, -1, -1), centre], dim=2).flatten(0, 1),
        rotation=torch.cat([eye, rotation], dim=2).flatten(0, 1),
        pattern=repeat(scene.pattern),
        colours=repeat(scene.colours),
        laying=repeat(scene.laying),
        light=repeat(scene.light),
        lighting=repeat(scene.lighting),
        gloss=None if scene.gloss is None else repeat(scene.gloss),
        air=None if scene.air is None else repeat(scene.air),
    )


def per_ray(value: Tensor, view: Tensor) -> Tensor:
    """Return each frame's value ([F, ...]) for its rays: [F, 1, ...] or [M, ...]."""
    return value[:, None] if view.ndim == 2 else value[view]


def per_hit(value: Tensor, view: Tensor, index: Tensor) -> Tensor:
    """Return the values [F, K, ...] at each ray's own index [...] below K: [..., ...]."""
    return value.flatten(0, 1)[view * value.shape[1] + index]


def components(vector: Tensor) -> Components:
    """Return a vector [..., 3] as three tensors."""
    x, y, z = vector.unbind(-1)
    return x, y, z


def dot(a: Components, b: Components) -> Tensor:
    """Return the dot product."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def into_body(rotation: Tensor, vector: Components) -> Components:
    """Return a vector in body coordinates; rotation [..., 3, 3] is body to world."""
    x, y, z = (
        rotation[..., 0, axis] * vector[0]
        + rotation[..., 1, axis] * vector[1]
        + rotation[..., 2, axis] * vector[2]
        for axis in range(3)
    )
    return x, y, z


def difference(a: Components, point: Tensor) -> Components:
    """Return a minus point [..., 3]."""
    return a[0] - point[..., 0], a[1] - point[..., 1], a[2] - point[..., 2]


def _safe(value: Tensor) -> Tensor:
    return torch.where(value.abs() < 1e-12, torch.full_like(value, 1e-12), value)


def _slabs(origin: Components, direction: Components, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Return the ray parameters where a ray enters and leaves the box low..high ([..., 3])."""
    enter = leave = None
    for axis in range(3):
        inverse = 1 / _safe(direction[axis])
        first = (low[..., axis] - origin[axis]) * inverse
        second = (high[..., axis] - origin[axis]) * inverse
        near, far = torch.minimum(first, second), torch.maximum(first, second)
        enter = near if enter is None else torch.maximum(enter, near)
        leave = far if leave is None else torch.minimum(leave, far)
    assert enter is not None and leave is not None
    return enter, leave


def _quadric(a: Tensor, half_b: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """Return the interval where a t² + 2 half_b t + c <= 0; empty (inf, -inf) without roots."""
    a = a.clamp_min(1e-12)
    discriminant = half_b * half_b - a * c
    root = discriminant.clamp_min(0).sqrt()
    enter, leave = (-half_b - root) / a, (-half_b + root) / a
    missed = discriminant < 0
    return enter.masked_fill(missed, torch.inf), leave.masked_fill(missed, -torch.inf)


def object_interval(
    kind: str, size: Tensor, origin: Components, direction: Components
) -> tuple[Tensor, Tensor]:
    """Return where a ray in object coordinates enters and leaves a body of this kind; size: [..., 3]."""
    if kind == "box":
        return _slabs(origin, direction, -size, size)
    radius = size[..., 0]
    if kind == "sphere":
        half_b, c = dot(direction, origin), dot(origin, origin) - radius * radius
        return _quadric(dot(direction, direction), half_b, c)
    flat_a = direction[0] ** 2 + direction[2] ** 2
    flat_b = direction[0] * origin[0] + direction[2] * origin[2]
    flat_c = origin[0] ** 2 + origin[2] ** 2 - radius * radius
    enter, leave = _quadric(flat_a, flat_b, flat_c)
    inverse = 1 / _safe(direction[1])
    top, bottom = (-size[..., 1] - origin[1]) * inverse, (size[..., 1] - origin[1]) * inverse
    return torch.maximum(enter, torch.minimum(top, bottom)), torch.minimum(leave, torch.maximum(top, bottom))


def cast(frames: Frames, rays: Rays) -> tuple[Tensor, Tensor]:
    """Return the first hits: z-depth [...] (inf where a ray misses even the room) and body [...] int64.

    Walls are visible only from inside the room, bodies only from outside.
    """
    size, centre = per_ray(frames.size, rays.view), per_ray(frames.centre, rays.view)
    rotation, active = per_ray(frames.rotation, rays.view), per_ray(frames.active, rays.view)
    offset = difference(rays.origin, centre[..., 0, :])
    enter, leave = object_interval("box", size[..., 0, :], offset, rays.direction)
    depth = leave.masked_fill((leave <= NEAR) | (leave < enter), torch.inf)
    body = torch.zeros_like(depth, dtype=torch.int64)
    for index, kind in enumerate(frames.kinds, start=1):
        origin, direction = difference(rays.origin, centre[..., index, :]), rays.direction
        if kind != "sphere":
            turned = rotation[..., index, :, :]
            origin, direction = into_body(turned, origin), into_body(turned, direction)
        enter, leave = object_interval(kind, size[..., index, :], origin, direction)
        closer = (enter < leave) & (enter > NEAR) & (enter < depth) & active[..., index]
        depth = torch.where(closer, enter, depth)
        body = body.masked_fill(closer, index)
    return depth, body
