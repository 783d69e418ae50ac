"""The camera of a "world": it drives, drifts, pans, tilts, zooms and shakes as its scene's path says."""

from __future__ import annotations

import torch
from torch import Tensor

from recapture.datasets.scenes.layout import Scene
from recapture.datasets.scenes.lenses import look_at
from recapture.datasets.scenes.shots import rolled

_CLEARANCE = 0.4  # scene units between a camera and the room
_OFFSET = (0.35, 0.2, 0.3)  # scene units by which a clip's camera may start beside the scene's
_AIM = (0.35, 0.2, 0.2)
_SHAKES = ((0.031, 0.6), (0.073, 0.3), (0.171, 0.12))  # cycles per frame and share


def path_cameras(scene: Scene, elapsed: Tensor, chance: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return world_to_camera [B, T, 4, 4] and zoom [B, T], `elapsed` [B, T] frames after the start.

    chance: [B, 13] in [0, 1] moves the start and varies how fast the camera moves (0.6 to 1.4 times), never
    which way it moves. None: the scene's own camera.
    """
    assert scene.path is not None
    path, camera = scene.path.double(), scene.camera.double()
    velocity, limit, yaw, pitch, turn_limit, zoom, shake, phase = path[:, None].split([3] + [1] * 7, dim=-1)
    yaw, pitch, turn_limit, zoom, shake = (value[..., 0] for value in (yaw, pitch, turn_limit, zoom, shake))
    position, target = camera[:, None, 0], camera[:, None, 1]
    pace = elapsed
    if chance is not None:
        signed = 2 * chance - 1
        pace = elapsed * (0.6 + 0.8 * chance[:, 12:13])
        position = position + (signed[:, 0:3] * camera.new_tensor(_OFFSET))[:, None]
        target = target + (signed[:, 6:9] * camera.new_tensor(_AIM))[:, None]
    speed = velocity.norm(dim=-1)
    travelled = _eased(speed * pace, limit[..., 0])[..., None] * velocity / speed.clamp_min(1e-9)[..., None]
    angles = [_eased(rate * pace, turn_limit) for rate in (yaw, pitch)]
    cycle = 2 * torch.pi * phase[..., 0]
    shakes = [
        shake
        * sum(
            share * torch.sin(2 * torch.pi * rate * elapsed + cycle * (axis + 1.3) + 40 * rate)
            for rate, share in _SHAKES
        )
        for axis in range(3)
    ]
    forward = target - position
    position = position + travelled + 0.02 * torch.stack(shakes, dim=-1)
    low, high = scene.room_low.double() + _CLEARANCE, scene.room_high.double() - _CLEARANCE
    position = torch.minimum(torch.maximum(position, low[:, None]), high[:, None])
    turned = _turn(forward, angles[0] + shakes[0], angles[1] + shakes[1])
    pose = rolled(look_at(position, position + turned), 0.6 * shakes[2])
    return pose, (1 + _eased(zoom * pace, torch.full_like(zoom, 0.45)))


def _eased(amount: Tensor, limit: Tensor) -> Tensor:
    """Return the amount, bent so that it never passes the limit."""
    return limit * torch.tanh(amount / limit.clamp_min(1e-9))


def _turn(forward: Tensor, yaw: Tensor, pitch: Tensor) -> Tensor:
    """Return directions [B, T, 3], turned to the right by yaw and upwards by pitch (degrees, [B, T])."""
    x, y, z = forward.unbind(-1)
    flat = torch.hypot(x, z)
    heading = torch.atan2(x, z) + torch.deg2rad(yaw)
    climb = torch.atan2(-y, flat) + torch.deg2rad(pitch)
    level = torch.cos(climb)
    return torch.stack([level * torch.sin(heading), -torch.sin(climb), level * torch.cos(heading)], dim=-1)
