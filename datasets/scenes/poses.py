"""Where the bodies of a scene are at given times."""

from __future__ import annotations

import torch
from torch import Tensor

from recapture.datasets.scenes.keyed import spline
from recapture.datasets.scenes.layout import Scene


def object_poses(scene: Scene, times: Tensor) -> tuple[Tensor, Tensor]:
    """Return the poses of the objects of a batch of scenes.

    times: [B, T] in frames. Returns centres [B, T, N, 3] and object-to-world rotations [B, T, N, 3, 3].
    """
    time = times[:, :, None]  # [B, T, 1]
    low, high = scene.low[:, None], scene.high[:, None]
    span = (high - low).clamp_min(1e-6)
    travelled = scene.position[:, None] + scene.velocity[:, None] * time[..., None] - low
    folded = torch.remainder(travelled, 2 * span)
    centre = low + torch.where(folded > span, 2 * span - folded, folded)
    height, rate, phase = scene.hop[:, None].unbind(-1)
    rise = height * torch.sin(torch.pi * (rate * time + phase)).abs()
    centre = torch.stack([centre[..., 0], centre[..., 1] - rise, centre[..., 2]], dim=-1)
    angle = scene.spin[:, None, :, 0] + scene.spin[:, None, :, 1] * time
    joints = None
    if scene.keys is not None:
        assert scene.key_step is not None
        at = (times / scene.key_step)[:, None].expand(-1, scene.keys.shape[1], -1)
        keyed = spline(scene.keys, at).transpose(1, 2)  # [B, T, N, 6]
        centre, angle, joints = centre + keyed[..., :3], angle + keyed[..., 3], keyed[..., 4:]
    rotation = axis_rotation(scene.axis[:, None].expand_as(centre), angle)
    if scene.limb is None:
        return centre, rotation
    return _part_poses(scene.limb, centre, rotation, time, joints)


def axis_rotation(axis: Tensor, angle: Tensor) -> Tensor:
    """Return rotations [..., 3, 3] for unit axes [..., 3] and radians [...] (Rodrigues' formula)."""
    x, y, z = axis.unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))
    eye = torch.eye(3, dtype=axis.dtype, device=axis.device)
    sine, cosine = angle.sin()[..., None, None], angle.cos()[..., None, None]
    return eye + sine * cross + (1 - cosine) * (cross @ cross)


def _part_poses(
    limb: Tensor, centre: Tensor, rotation: Tensor, time: Tensor, joints: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return the poses of parts whose actors' roots are at centre [B, T, N, 3], rotation [B, T, N, 3, 3].

    limb: [B, N, 17] as Scene.limb; time: [B, T, 1] in frames; joints: [B, T, N, 2] radians that are added
    to the angles of both joints.
    """
    columns = limb[:, None].unbind(-1)  # 17 of [B, 1, N]
    cycle = 2 * torch.pi * columns[5] * time
    first = columns[3] + columns[4] * torch.sin(cycle + 2 * torch.pi * columns[6])
    bent = columns[9] * (0.5 + 0.5 * torch.sin(cycle + 2 * torch.pi * columns[10]))
    if joints is not None:
        first, bent = first + joints[..., 0], bent + joints[..., 1]
    both = first + columns[8] + bent
    cosine, sine = both.cos(), both.sin()
    x, y, z = (columns[11].expand_as(both), *(columns[index] for index in (12, 13)))
    local = torch.stack(
        [
            columns[0] + x,
            columns[1] + columns[7] * first.cos() + cosine * y - sine * z,
            columns[2] + columns[7] * first.sin() + sine * y + cosine * z,
        ],
        dim=-1,
    )
    zero, one = torch.zeros_like(both), torch.ones_like(both)
    hinge = torch.stack([one, zero, zero, zero, cosine, -sine, zero, sine, cosine], dim=-1)
    turn = limb[:, None, :, 14:17]
    angle = turn.norm(dim=-1)
    still = axis_rotation(turn / angle.clamp_min(1e-12)[..., None], angle)
    placed = centre + (rotation @ local[..., None])[..., 0]
    return placed, rotation @ hinge.unflatten(-1, (3, 3)) @ still
