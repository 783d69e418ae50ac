"""Film a world of `held_out_worlds.py`: ray-cast, one light with hard shadows, haze in the distance."""

from __future__ import annotations

import torch
from torch import Tensor

from recapture.datasets.scenes.held_out_worlds import World
from recapture.datasets.scenes.render import SceneFrames

AMBIENT, DIRECT = 0.5, 0.55
CHUNK = 1 << 18  # rays at once


def film(
    world: World,
    intrinsics: Tensor,  # [T, 3, 3] pixels
    world_to_camera: Tensor,  # [T, 4, 4]
    times: Tensor,  # [T] in frames
    height: int,
    width: int,
    antialias: int = 2,
) -> SceneFrames:
    """Film one view per time: depth and ids of the ray through each pixel's centre.

    Pixels beside another body average antialias x antialias rays. object_id: 0 the backdrop, then the solids
    in order. Every ray meets the backdrop, so depth is finite.
    """
    pose = world_to_camera.double()
    back = torch.linalg.inv(pose[:, :3, :3])
    eye = (-back @ pose[:, :3, 3:])[..., 0].float()
    to_direction = (back @ torch.linalg.inv(intrinsics.double())).float()
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    centres = torch.stack([x, y, torch.ones_like(x)], dim=-1).reshape(-1, 3)
    view = torch.arange(len(times)).repeat_interleave(height * width)
    colour, depth, body = _seen(
        world, eye, to_direction, times.float(), intrinsics, view, centres.repeat(len(times), 1)
    )
    shape = (len(times), height, width)
    edge = _beside_another(body.view(shape)).flatten()
    if antialias > 1 and edge.any():
        steps = [(step + 0.5) / antialias - 0.5 for step in range(antialias)]
        shifts = torch.tensor([(dx, dy, 0.0) for dy in steps for dx in steps])
        pixels = centres.repeat(len(times), 1)[edge]
        around = (pixels[:, None] + shifts).reshape(-1, 3)
        finer, _, _ = _seen(
            world,
            eye,
            to_direction,
            times.float(),
            intrinsics,
            view[edge].repeat_interleave(len(shifts)),
            around,
        )
        colour[edge] = finer.unflatten(0, (-1, len(shifts))).mean(1)
    video = (2 * colour - 1).view(*shape, 3).permute(0, 3, 1, 2).contiguous()
    return SceneFrames(video, depth.view(shape), body.view(shape))


def _beside_another(body: Tensor) -> Tensor:
    edge = torch.zeros_like(body, dtype=torch.bool)
    for axis in (1, 2):
        differs = body.diff(dim=axis) != 0
        edge.narrow(axis, 0, differs.shape[axis]).logical_or_(differs)
        edge.narrow(axis, 1, differs.shape[axis]).logical_or_(differs)
    return edge


def _seen(
    world: World,
    eye: Tensor,
    to_direction: Tensor,
    times: Tensor,
    intrinsics: Tensor,
    view: Tensor,
    pixel: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return colour [M, 3], z-depth [M] and body [M] of rays through pixels [M, 3] of the views [M]."""
    parts = []
    for here, at in zip(view.split(CHUNK), pixel.split(CHUNK)):
        direction = (to_direction[here] @ at[..., None])[..., 0]  # z = 1 in the camera: t is z-depth
        parts.append(_trace(world, eye[here], direction, times[here], 1 / intrinsics[here, 0, 0]))
    colour, depth, body = (torch.cat(part) for part in zip(*parts))
    return colour, depth, body


def _nearest(world: World, origin: Tensor, direction: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
    hits = torch.stack([solid.hit(origin, direction, time) for solid in world.solids])
    depth, body = hits.min(0)
    return depth, body


def _trace(
    world: World, origin: Tensor, direction: Tensor, time: Tensor, per_pixel: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    depth, body = _nearest(world, origin, direction, time)
    point = origin + depth[:, None] * direction
    light = origin.new_tensor(world.light)
    colour = torch.zeros_like(origin)
    for number, solid in enumerate(world.solids):
        rays = (body == number).nonzero()[:, 0]
        if not len(rays):
            continue
        at, now = point[rays], time[rays]
        paint = solid.paint.colour(solid.own(at, now), depth[rays] * per_pixel[rays])
        if not solid.paint.glows:
            normal = solid.normal(at, now)
            facing = torch.where((normal * direction[rays]).sum(-1, keepdim=True) > 0, -normal, normal)
            lit = (facing @ light).clamp_min(0)
            lit = lit * _reached(world, at + 1e-3 * facing, light, now)
            paint = paint * (AMBIENT + DIRECT * lit)[:, None]
        colour[rays] = paint
    density, tint = world.haze
    share = 1 - torch.exp(-density * depth * direction.norm(dim=-1))
    glows = torch.tensor([solid.paint.glows for solid in world.solids])[body]
    share = torch.where(glows, 0.0, share)[:, None]
    return (colour + share * (origin.new_tensor(tint) - colour)).clamp(0, 1), depth, body


def _reached(world: World, point: Tensor, light: Tensor, time: Tensor) -> Tensor:
    """Return 1 where the light reaches a point [N, 3], 0 in the shadow of a body; hills cast none."""
    blocked = torch.zeros_like(time, dtype=torch.bool)
    towards = light.expand_as(point)
    for solid in world.solids[2:]:  # behind the backdrop and the floor
        blocked |= torch.isfinite(solid.hit(point, towards, time))
    return (~blocked).to(point)
