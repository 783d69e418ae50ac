"""Find the surface at a ray's first hit in a scene of the variety "world", whose bodies may be stretched."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from recapture.datasets.scenes.layout import ALL_KINDS, ROOM_FACES
from recapture.datasets.scenes.rays import (
    Components,
    Frames,
    Rays,
    components,
    dot,
    into_body,
    per_hit,
    per_ray,
)
from recapture.datasets.scenes.surfaces import Surface, pattern_axes
from recapture.datasets.scenes.world_rays import minus

_BOX, _CYLINDER, _ELLIPSOID = (ALL_KINDS.index(kind) for kind in ("box", "cylinder", "ellipsoid"))


@dataclass(frozen=True)
class WorldSurface:
    """A surface, how much it faces the middle between light and eye, and how far away it is."""

    surface: Surface
    shine: Tensor  # [...] cosine between normal and the direction halfway between light and eye
    distance: Tensor  # [...] along the ray, in scene units
    sky: Tensor  # [...] bool


def kind_codes(kinds: tuple[str, ...], device: torch.device) -> Tensor:
    """Return each body's index into ALL_KINDS [1 + N]; the room is a box."""
    return torch.tensor([_BOX, *(ALL_KINDS.index(kind) for kind in kinds)], device=device)


def world_surface(frames: Frames, rays: Rays, depth: Tensor, body: Tensor, codes: Tensor) -> WorldSurface:
    """Return the surface at the hits that `cast_world` returned; codes: those of the frames' kinds."""
    assert frames.air is not None
    reach = torch.where(torch.isfinite(depth), depth, torch.ones_like(depth))
    point = (
        rays.origin[0] + reach * rays.direction[0],
        rays.origin[1] + reach * rays.direction[1],
        rays.origin[2] + reach * rays.direction[2],
    )
    rotation = per_hit(frames.rotation, rays.view, body)
    size = per_hit(frames.size, rays.view, body)
    centre = components(per_hit(frames.centre, rays.view, body))
    local = into_body(rotation, minus(point, centre))
    code = codes[body]
    face, normal = _face_and_normal(size, local, body, code)
    texture = torch.where(body == 0, face, body + (ROOM_FACES - 1))
    cells = per_hit(frames.laying[..., 0], rays.view, texture)
    is_ball = code == _ELLIPSOID
    radius = size[..., 0]
    drawn = tuple(
        torch.where(is_ball, part * (radius / size[..., axis]), part) if axis else part
        for axis, part in enumerate(local)
    )
    uv, scale, tangents = pattern_axes(
        size, (drawn[0], drawn[1], drawn[2]), face, cells, code == _BOX, is_ball
    )
    direction = into_body(rotation, rays.direction)
    along_u, along_v = _spread(rays, rotation, direction, normal, tangents)
    length = dot(direction, direction).sqrt()
    light = into_body(rotation, components(per_ray(frames.light, rays.view)))
    half = tuple(toward - away / length for toward, away in zip(light, direction))
    air = per_ray(frames.air, rays.view)
    surface = Surface(
        body=body,
        face=face,
        texture=texture,
        point=point,
        local=local,
        lit=dot(normal, light),
        up=-dot(normal, components(rotation[..., 1, :])),
        uv=uv,
        uv_footprint=(along_u * reach * scale, along_v * reach * cells),
        footprint=(along_u * along_v).sqrt() * reach,
    )
    shine = dot(normal, (half[0], half[1], half[2]))
    shine = shine / (half[0] ** 2 + half[1] ** 2 + half[2] ** 2).sqrt().clamp_min(1e-6)
    sky = (body == 0) & (face != 3) & (air[..., 0] > 0.5)
    return WorldSurface(surface, shine, reach * length, sky)


def _spread(
    rays: Rays,
    rotation: Tensor,
    direction: Components,
    normal: Components,
    tangents: tuple[Components, Components],
) -> tuple[Tensor, Tensor]:
    """Return the lengths along both tangents that a pixel covers at a depth of 1."""
    facing = dot(normal, direction)
    facing = torch.where(facing.abs() < 1e-3, torch.full_like(facing, 1e-3).copysign(facing), facing)
    squares = [torch.zeros_like(facing), torch.zeros_like(facing)]
    for step in (rays.per_column, rays.per_row):
        stepped = into_body(rotation, step)
        slip = dot(normal, stepped) / facing
        moved = tuple(part - slip * along for part, along in zip(stepped, direction))
        squares = [
            total + dot(tangent, (moved[0], moved[1], moved[2])) ** 2
            for total, tangent in zip(squares, tangents)
        ]
    return squares[0].sqrt(), squares[1].sqrt()


def _face_and_normal(
    size: Tensor, local: Components, body: Tensor, code: Tensor
) -> tuple[Tensor, Components]:
    """Return face 2 * axis + (1 on the positive side), and the outward unit normal (inward for the room).

    Round sides have face 0.
    """
    x, y, z = (part / size[..., axis] for axis, part in enumerate(local))
    widest = torch.where(y.abs() > x.abs(), 1, 0)
    widest = torch.where(z.abs() > torch.maximum(x.abs(), y.abs()), 2, widest)
    rho = (local[0] ** 2 + local[2] ** 2).sqrt()
    is_box, is_ball = code == _BOX, code == _ELLIPSOID
    on_cap = (code == _CYLINDER) & (y.abs() > rho / size[..., 0])
    axis = torch.where(is_box, widest, on_cap.long())
    flat = is_box | on_cap
    chosen = torch.where(axis == 0, local[0], torch.where(axis == 1, local[1], local[2]))
    face = torch.where(flat, 2 * axis + (chosen > 0).long(), torch.zeros_like(axis))
    sign = torch.where((chosen > 0) == (body == 0), -1.0, 1.0).to(rho.dtype)
    beyond = local[1] - torch.minimum(torch.maximum(local[1], -size[..., 1]), size[..., 1])
    round_parts = (
        torch.where(is_ball, x / size[..., 0], local[0]),
        torch.where(is_ball, y / size[..., 1], torch.where(code == _CYLINDER, 0.0, beyond)),
        torch.where(is_ball, z / size[..., 2], local[2]),
    )
    length = (round_parts[0] ** 2 + round_parts[1] ** 2 + round_parts[2] ** 2).sqrt().clamp_min(1e-9)
    normal = tuple(
        torch.where(flat, sign * (axis == index), part / length) for index, part in enumerate(round_parts)
    )
    return face, (normal[0], normal[1], normal[2])
