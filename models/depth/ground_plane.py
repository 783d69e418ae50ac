"""A crude depth prior for clips without depth: a ground plane under a stated horizon, and a far wall."""

import torch
from torch import Tensor


def ground_plane_depth(
    height: int,
    width: int,
    intrinsics: Tensor,  # [3, 3] pixels
    *,
    horizon: float = 0.4,
    camera_height: float = 1.5,
    far: float = 12.0,
) -> Tensor:
    """z-depth [height, width] of flat ground whose horizon lies at `horizon` of the frame height.

    horizon: 0 = top edge, 1 = bottom edge; it fixes the camera's pitch: tan(pitch) = (c_y - horizon row) /
    f_y, so a horizon above the principal point means looking down. camera_height and far: scene units. A
    pixel's ray (x, y, 1) meets the ground, whose downward normal is (0, cos pitch, sin pitch) in camera
    axes, at depth camera_height / (y cos pitch + sin pitch); what is farther than `far`, and everything
    above the horizon, is a wall facing the camera at depth `far`. No roll, nothing that stands on the
    ground: parallax of people and houses is wrong by construction. It serves where no depth model is at
    hand.
    """
    if not 0 < horizon < 1 or camera_height <= 0 or far <= 0:
        raise ValueError(
            "depth: ground_plane needs 0 < horizon < 1, camera_height > 0 and far > 0;"
            f" got horizon={horizon}, camera_height={camera_height}, far={far}"
        )
    focal, centre = intrinsics[1, 1].double(), intrinsics[1, 2].double()
    y = (torch.arange(height, dtype=torch.float64, device=intrinsics.device) + 0.5 - centre) / focal
    pitch = torch.atan((centre - horizon * height) / focal)
    towards_ground = y * torch.cos(pitch) + torch.sin(pitch)
    depth = camera_height / towards_ground.clamp_min(camera_height / far)
    return depth.float()[:, None].expand(height, width).contiguous()
