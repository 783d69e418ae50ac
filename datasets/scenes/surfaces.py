"""Find the surface at a ray's first hit: side, normal, pattern coordinates and pixel footprint."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from recapture.datasets.scenes.layout import KINDS, ROOM_FACES
from recapture.datasets.scenes.rays import (
    Components,
    Frames,
    Rays,
    components,
    difference,
    dot,
    into_body,
    per_hit,
    per_ray,
)


@dataclass(frozen=True)
class Surface:
    """What a ray sees at its first hit, sufficient for shading."""

    body: Tensor  # [...] int64
    face: Tensor  # [...] int64 0..5, distinguishes the sides of the room, a box and a cylinder
    texture: Tensor  # [...] int64, index into the 6 + N textures
    point: Components  # in world coordinates
    local: Components  # in the body's coordinates, from its centre
    lit: Tensor  # [...] cosine between normal and light
    up: Tensor  # [...] upward component of the normal, -1..1
    uv: tuple[Tensor, Tensor]  # cells of the pattern
    uv_footprint: tuple[Tensor, Tensor]  # cells that a pixel covers along u and v
    footprint: Tensor  # [...] scene units that a pixel covers (geometric mean of both directions)


def surface_at(frames: Frames, rays: Rays, depth: Tensor, body: Tensor) -> Surface:
    """Return the surface at the hits that `cast` returned (depth and body: [...])."""
    reach = torch.where(torch.isfinite(depth), depth, torch.ones_like(depth))
    x, y, z = (o + reach * d for o, d in zip(rays.origin, rays.direction))
    rotation = per_hit(frames.rotation, rays.view, body)
    size = per_hit(frames.size, rays.view, body)
    local = into_body(rotation, difference((x, y, z), per_hit(frames.centre, rays.view, body)))
    is_box, is_sphere = _kind_of(frames.kinds, body)
    face, normal = face_and_normal(size, local, body, is_box, is_sphere)
    texture = torch.where(body == 0, face, body + (ROOM_FACES - 1))
    cells = per_hit(frames.laying[..., 0], rays.view, texture)
    uv, scale, tangents = pattern_axes(size, local, face, cells, is_box, is_sphere)

    direction = into_body(rotation, rays.direction)
    facing = dot(normal, direction)
    facing = torch.where(facing.abs() < 1e-3, torch.full_like(facing, 1e-3).copysign(facing), facing)
    spread = [torch.zeros_like(reach), torch.zeros_like(reach)]
    for step in (rays.per_column, rays.per_row):
        stepped = into_body(rotation, step)
        slip = dot(normal, stepped) / facing
        moved = (
            stepped[0] - slip * direction[0],
            stepped[1] - slip * direction[1],
            stepped[2] - slip * direction[2],
        )
        spread = [total + dot(tangent, moved) ** 2 for total, tangent in zip(spread, tangents)]
    along_u, along_v = spread[0].sqrt() * reach, spread[1].sqrt() * reach
    light = into_body(rotation, components(per_ray(frames.light, rays.view)))
    return Surface(
        body=body,
        face=face,
        texture=texture,
        point=(x, y, z),
        local=local,
        lit=dot(normal, light),
        up=-dot(normal, components(rotation[..., 1, :])),
        uv=uv,
        uv_footprint=(along_u * scale, along_v * cells),
        footprint=(along_u * along_v).sqrt(),
    )


def _kind_of(kinds: tuple[str, ...], body: Tensor) -> tuple[Tensor, Tensor]:
    codes = torch.tensor([KINDS.index("box"), *(KINDS.index(k) for k in kinds)], device=body.device)
    code = codes[body]
    return code == KINDS.index("box"), code == KINDS.index("sphere")


def face_and_normal(
    size: Tensor, local: Components, body: Tensor, is_box: Tensor, is_sphere: Tensor
) -> tuple[Tensor, Components]:
    """Return face 2 * axis + (1 on the positive side), and the outward unit normal (inward for the room)."""
    relative = [part / size[..., axis] for axis, part in enumerate(local)]
    reach = [part.abs() for part in relative]
    widest = torch.where(reach[1] > reach[0], 1, 0)
    widest = torch.where(reach[2] > torch.maximum(reach[0], reach[1]), 2, widest)
    radius = size[..., 0]
    rho = (local[0] ** 2 + local[2] ** 2).sqrt()
    on_cap = (local[1].abs() / size[..., 1] > rho / radius) & ~is_sphere
    axis = torch.where(is_box, widest, on_cap.long())
    flat = is_box | on_cap
    chosen = torch.where(axis == 0, local[0], torch.where(axis == 1, local[1], local[2]))
    face = torch.where(flat, 2 * axis + (chosen > 0).long(), torch.zeros_like(axis))
    sign = torch.where(chosen > 0, 1.0, -1.0).to(rho.dtype)
    sign = torch.where(body == 0, -sign, sign)
    round_length = torch.where(is_sphere, radius, rho.clamp_min(1e-9))
    normal = tuple(
        torch.where(
            flat,
            sign * (axis == index),
            part / round_length if index != 1 else torch.where(is_sphere, part / round_length, 0.0),
        )
        for index, part in enumerate(local)
    )
    return face, (normal[0], normal[1], normal[2])


def pattern_axes(
    size: Tensor, local: Components, face: Tensor, cells: Tensor, is_box: Tensor, is_sphere: Tensor
) -> tuple[tuple[Tensor, Tensor], Tensor, tuple[Components, Components]]:
    """Return pattern coordinates (u, v) in cells, cells per unit along u, and the unit tangents of u and v.

    Flat faces use the two axes of their plane (v vertical on walls); round sides use longitude, rounded to an
    even number of cells so that the pattern closes, and height (or latitude on a sphere).
    """
    zero, one = torch.zeros_like(local[0]), torch.ones_like(local[0])
    axis = face // 2
    flat = is_box | (axis == 1)
    u = torch.where(axis == 0, local[2], local[0]) * cells
    v = torch.where(axis == 1, local[2], local[1]) * cells
    flat_u = (torch.where(axis == 0, zero, one), zero, torch.where(axis == 0, one, zero))
    flat_v = (zero, torch.where(axis == 1, zero, one), torch.where(axis == 1, one, zero))

    radius = size[..., 0]
    rho = (local[0] ** 2 + local[2] ** 2).sqrt().clamp_min(1e-6)
    around = (torch.pi * radius * cells).round().clamp_min(1) * 2
    longitude = torch.atan2(local[0], local[2])
    latitude = torch.asin((local[1] / radius).clamp(-1, 1)) * radius
    round_u = (local[2] / rho, zero, -local[0] / rho)
    tilt = local[1] / (radius * rho)
    tilted_v = (-local[0] * tilt, rho / radius, -local[2] * tilt)
    round_v = tuple(torch.where(is_sphere, a, b) for a, b in zip(tilted_v, (zero, one, zero)))
    u = torch.where(flat, u, longitude / (2 * torch.pi) * around)
    v = torch.where(flat, v, torch.where(is_sphere, latitude, local[1]) * cells)
    scale = torch.where(flat, cells, around / (2 * torch.pi * rho))
    tangent_u = tuple(torch.where(flat, a, b) for a, b in zip(flat_u, round_u))
    tangent_v = tuple(torch.where(flat, a, b) for a, b in zip(flat_v, round_v))
    return (
        (u, v),
        scale,
        ((tangent_u[0], tangent_u[1], tangent_u[2]), (tangent_v[0], tangent_v[1], tangent_v[2])),
    )
