"""Cast rays into a scene of the variety "world": many bodies of five kinds, in world coordinates.

All parameters of a body broadcast against its rays, so the same code serves whole views (one body, all
rays of a view) and scattered rays (one body for each ray).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from recapture.datasets.scenes.layout import ALL_KINDS
from recapture.datasets.scenes.rays import NEAR, Components, Frames, Rays, components

_TINY = 1e-12


@dataclass(frozen=True)
class Body:
    """Size, centre and axes (body to world, as columns) of one body per view [F, 1], or per ray [M]."""

    size: Components
    centre: Components
    axes: tuple[Components, Components, Components]

    @staticmethod
    def of(size: Tensor, centre: Tensor, rotation: Tensor) -> Body:
        """Return the body of size and centre [..., 3] and rotation [..., 3, 3] (body to world)."""
        x, y, z = (components(rotation[..., axis]) for axis in range(3))
        return Body(components(size), components(centre), (x, y, z))


def entry(kind: str, body: Body, rays: Rays, square: Tensor) -> Tensor:
    """Return the ray parameter at which rays enter a body from outside; inf where they miss it.

    square: the squared lengths of the rays' directions.
    """
    offset = minus(rays.origin, body.centre)
    if kind == "box":
        enter, leave = _box(body, offset, rays.direction)
        return enter.masked_fill(enter >= leave, torch.inf)
    if kind in ("sphere", "ellipsoid"):
        return _ellipsoid(kind, body, offset, rays.direction)
    return _around_axis(kind, body, offset, rays.direction, square)


def dot(a: Components, b: Components) -> Tensor:
    """Return the dot product, in three passes over memory."""
    return torch.addcmul(torch.addcmul(a[0] * b[0], a[1], b[1]), a[2], b[2])


def minus(a: Components, b: Components) -> Components:
    """Return a minus b."""
    return a[0] - b[0], a[1] - b[1], a[2] - b[2]


def _box(body: Body, offset: Components, direction: Components) -> tuple[Tensor, Tensor]:
    enter: Tensor | None = None
    leave: Tensor | None = None
    for axis, half in zip(body.axes, body.size):
        inverse = (dot(axis, direction) + _TINY).reciprocal()
        middle, reach = dot(axis, offset) * inverse, inverse.abs() * half
        near, far = -middle - reach, reach - middle
        enter = near if enter is None else torch.maximum(enter, near)
        leave = far if leave is None else torch.minimum(leave, far)
    assert enter is not None and leave is not None
    return enter, leave


def _ellipsoid(kind: str, body: Body, offset: Components, direction: Components) -> Tensor:
    halves = body.size if kind == "ellipsoid" else (body.size[0],) * 3
    o0, o1, o2 = (dot(axis, offset) / half for axis, half in zip(body.axes, halves))
    d0, d1, d2 = (
        dot((axis[0] / half, axis[1] / half, axis[2] / half), direction)
        for axis, half in zip(body.axes, halves)
    )
    a, b = dot((d0, d1, d2), (d0, d1, d2)), dot((d0, d1, d2), (o0, o1, o2))
    root = torch.addcmul(b * b, a, o0 * o0 + o1 * o1 + o2 * o2 - 1, value=-1)
    return ((-b - root.clamp_min(0).sqrt()) / a).masked_fill(root < 0, torch.inf)


def _around_axis(kind: str, body: Body, offset: Components, direction: Components, square: Tensor) -> Tensor:
    """Return the entry into a cylinder or a capsule, both bodies around their own y."""
    radius, half, axis = body.size[0], body.size[1], body.axes[1]
    rise, start = dot(axis, direction), dot(axis, offset)
    along = dot(offset, direction)
    outside = dot(offset, offset) - radius * radius
    a = torch.addcmul(square, rise, rise, value=-1).clamp_min(_TINY)
    b = torch.addcmul(along, start, rise, value=-1)
    root = torch.addcmul(b * b, a, outside - start * start, value=-1)
    missed = root < 0
    root = root.clamp_min(0).sqrt()
    enter = (-b - root) / a
    if kind == "cylinder":
        inverse = (rise + _TINY).reciprocal()
        middle, reach = start * inverse, inverse.abs() * half
        enter = torch.maximum(enter, -middle - reach)
        leave = torch.minimum((root - b) / a, reach - middle)
        return enter.masked_fill(missed | (enter >= leave), torch.inf)
    height = torch.addcmul(start, enter, rise)
    end = torch.copysign(half.expand_as(height), height)  # the round end that the ray may meet
    b = torch.addcmul(along, end, rise, value=-1)
    ball = b * b - square * (outside - 2 * end * start + end * end)
    on_end = height.abs() > half
    enter = torch.where(on_end, (-b - ball.clamp_min(0).sqrt()) / square, enter)
    return enter.masked_fill(missed | (on_end & (ball < 0)), torch.inf)


def cast_world(frames: Frames, rays: Rays, slots: list[int]) -> tuple[Tensor, Tensor]:
    """Return z-depth and body, as `cast` does, of rays [F, P] of whole views.

    slots: those that may be active.
    """
    room = Body.of(frames.size[:, None, 0], frames.centre[:, None, 0], frames.rotation[:, None, 0])
    enter, leave = _box(room, minus(rays.origin, room.centre), rays.direction)
    depth = leave.masked_fill((leave <= NEAR) | (leave < enter), torch.inf)
    body = torch.zeros_like(depth, dtype=torch.int64)
    square = dot(rays.direction, rays.direction)
    for slot in slots:
        index = slot + 1
        one = Body.of(
            frames.size[:, None, index], frames.centre[:, None, index], frames.rotation[:, None, index]
        )
        enter = entry(frames.kinds[slot], one, rays, square)
        closer = (enter > NEAR) & (enter < depth) & frames.active[:, None, index]
        depth = torch.where(closer, enter, depth)
        body = body.masked_fill(closer, index)
    return depth, body


def entry_of_any(kinds: Tensor, body: Body, rays: Rays) -> Tensor:
    """Return `entry` for scattered rays, each with a body of its own kind (index into ALL_KINDS) [M]."""
    enter = torch.full_like(rays.direction[0], torch.inf)
    square = dot(rays.direction, rays.direction)
    for index, kind in enumerate(ALL_KINDS):
        if kind != "sphere":  # worlds have ellipsoids
            enter = torch.where(kinds == index, entry(kind, body, rays, square), enter)
    return enter.masked_fill(enter <= NEAR, torch.inf)
