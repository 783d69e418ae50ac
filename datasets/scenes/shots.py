"""The camera of a scene with a keyed shot: it stands, looks, rolls and zooms as the keys say."""

from __future__ import annotations

import torch
from torch import Tensor

from recapture.datasets.scenes.keyed import spline
from recapture.datasets.scenes.layout import Scene
from recapture.datasets.scenes.lenses import look_at


def shot_cameras(scene: Scene, times: Tensor) -> tuple[Tensor, Tensor]:
    """Return world_to_camera [B, T, 4, 4] and zoom [B, T] of a batch of scenes at times [B, T] in frames."""
    assert scene.shot is not None and scene.key_step is not None
    found = spline(scene.shot.double(), times / scene.key_step.double())
    position, target, roll, zoom = found.split([3, 3, 1, 1], dim=-1)
    return rolled(look_at(position, target), roll[..., 0]), zoom[..., 0]


def rolled(pose: Tensor, degrees: Tensor) -> Tensor:
    """Return cameras [..., 4, 4] turned about their own axis; the picture turns the other way."""
    angle = torch.deg2rad(degrees)
    roll = torch.eye(4, dtype=pose.dtype, device=pose.device).repeat(*angle.shape, 1, 1)
    roll[..., 0, 0] = roll[..., 1, 1] = angle.cos()
    roll[..., 1, 0] = angle.sin()
    roll[..., 0, 1] = -angle.sin()
    return roll @ pose
