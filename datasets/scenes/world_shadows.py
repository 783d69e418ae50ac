"""Shadows of bodies in parallel light, with penumbras that widen with the distance to the body.

Seen along the light, every body is a flat shape. One ray from a point towards the light passes that shape at
a signed distance, in closed form: this is the shadow ray; the distance decides how dark the penumbra is.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from recapture.datasets.scenes.rays import Components, Frames, components

_SHARP = 2e-3  # units; the narrowest penumbra


@dataclass(frozen=True)
class Outlines:
    """The shapes [F, 1 + N] of bodies along the light of F frames.

    Round bodies: the points with hypot(max(|x| - half, 0), y) < 1, scaled by `scale` to units. Boxes: the
    points whose three `across` coordinates are each smaller than `reach`.
    """

    along: Tensor  # [F, 1 + N, 3] direction whose coordinate is x
    beside: Tensor  # [F, 1 + N, 3] that of y
    half: Tensor  # [F, 1 + N]
    scale: Tensor  # [F, 1 + N]
    across: Tensor  # [F, 1 + N, 3, 3] three directions
    reach: Tensor  # [F, 1 + N, 3]
    height: Tensor  # [F, 1 + N] of the centre, along the light


def outlines(frames: Frames) -> Outlines:
    """Return the shapes of all bodies along the light."""
    light = frames.light[:, None]  # [F, 1, 3]
    edges = frames.rotation.mT * frames.size[..., None]  # [F, K, axis, 3]
    normals = torch.linalg.cross(light[:, :, None].expand_as(edges), edges)
    length = normals.norm(dim=-1, keepdim=True)
    across = normals / length.clamp_min(1e-9)
    reach = (across @ edges.mT).abs().sum(-1) + 1e3 * (length[..., 0] < 1e-6)

    axis = frames.rotation[..., 1]  # [F, K, 3]
    tilt = (axis * light).sum(-1, keepdim=True)
    flat = axis - tilt * light
    anyway = torch.linalg.cross(light, light.roll(1, dims=-1))  # for an axis along the light
    flat = torch.where(flat.norm(dim=-1, keepdim=True) < 1e-4, anyway.expand_as(flat), flat)
    along = torch.nn.functional.normalize(flat, dim=-1)
    beside = torch.linalg.cross(light.expand_as(along), along)
    radius, half = frames.size[..., 0], frames.size[..., 1] * (1 - tilt[..., 0] ** 2).clamp_min(0).sqrt()
    short = torch.ones_like(radius)
    kinds = ["box", *frames.kinds]
    for index, kind in enumerate(kinds):
        if kind == "cylinder":
            short[:, index] = tilt[:, index, 0].abs().clamp_min(1e-2)
    rows = torch.stack([along / (radius * short)[..., None], beside / radius[..., None]], dim=-2)
    half, scale = half / (radius * short), radius.clone()
    balls = [index for index, kind in enumerate(kinds) if kind == "ellipsoid"]
    if balls:
        plane = torch.stack([along, beside], dim=-2)[:, balls]  # [F, E, 2, 3]
        spread = plane @ edges[:, balls].mT
        first, mixed, second = _cholesky(spread @ spread.mT)
        x = plane[..., 0, :] / first[..., None]
        rows[:, balls] = torch.stack([x, (plane[..., 1, :] - mixed[..., None] * x) / second[..., None]], -2)
        half[:, balls] = 0
        scale[:, balls] = torch.minimum(first, second)
    height = (frames.centre * light).sum(-1)
    return Outlines(rows[..., 0, :], rows[..., 1, :], half, scale, across, reach, height)


def _cholesky(square: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the factor's entries 00, 10 and 11 of positive matrices [..., 2, 2]."""
    first = square[..., 0, 0].clamp_min(1e-12).sqrt()
    mixed = square[..., 0, 1] / first
    return first, mixed, (square[..., 1, 1] - mixed * mixed).clamp_min(1e-12).sqrt()


def shadow_at(
    frames: Frames, shapes: Outlines, point: Components, body: Tensor, slots: list[int], softness: Tensor
) -> Tensor:
    """Return how much of the light is blocked, 0..1, at points [F, P] on bodies [F, P].

    A body does not block light from its own surface, which is dark where it faces away. softness: [F, 1].
    """
    light = components(frames.light[:, None])
    height = light[0] * point[0] + light[1] * point[1] + light[2] * point[2]
    blocked = torch.zeros_like(height)
    for slot in slots:
        index = slot + 1
        centre = components(frames.centre[:, None, index])

        def coordinate(direction: Tensor, centre: Components = centre) -> Tensor:
            x, y, z = components(direction[:, None])
            offset = x * centre[0] + y * centre[1] + z * centre[2]
            first = torch.addcmul(-offset, x, point[0])
            return torch.addcmul(torch.addcmul(first, y, point[1]), z, point[2])

        if frames.kinds[slot] == "box":
            inside = torch.full_like(height, torch.inf)
            for axis in range(3):
                away = coordinate(shapes.across[:, index, axis]).abs()
                inside = torch.minimum(inside, shapes.reach[:, None, index, axis] - away)
        else:
            x = (coordinate(shapes.along[:, index]).abs() - shapes.half[:, None, index]).clamp_min(0)
            inside = 1 - torch.hypot(x, coordinate(shapes.beside[:, index]))
            inside = inside * shapes.scale[:, None, index]
        gap = shapes.height[:, None, index] - height
        width = softness * gap.clamp_min(0) + _SHARP
        here = (inside / width + 0.5).clamp(0, 1)
        counts = (gap > 0) & (body != index) & frames.active[:, None, index]
        blocked = torch.maximum(blocked, here * counts)
    return blocked
