"""Looking a target pixel up in the source: project its surface point there and sample, if seen there."""

from dataclasses import dataclass

import torch
from torch import Tensor

from recapture.conf.heartbeat import beating

EDGE = 1.25  # four neighbours whose depths differ by more are on two surfaces


@dataclass(frozen=True)
class BackWarp:
    """The source as looked up from the target's pixels."""

    video: Tensor  # [T, 3, H, W] in [-1, 1], 0 where not co-visible
    co_visible: Tensor  # [T, H, W] bool, the source sees this very surface point
    depth_ratio: Tensor  # [T, H, W] source depth found there / depth of the point; NaN outside the source
    inside: Tensor  # [T, H, W] bool, the point falls into the source image, on known pixels


def back_warp(
    video: Tensor,  # [T, 3, h, w] in [-1, 1]
    depth: Tensor,  # [T, h, w]
    known: Tensor,  # [T, h, w] bool
    intrinsics: Tensor,  # [T, 3, 3]
    world_to_camera: Tensor,  # [T, 4, 4]
    target_depth: Tensor,  # [T, H, W], inf or <= 0 where unknown
    target_intrinsics: Tensor,  # [T, 3, 3]
    target_world_to_camera: Tensor,  # [T, 4, 4]
    *,
    tolerance: float = 0.05,
) -> BackWarp:
    """Sample source frame t at the place that each target pixel of frame t projects to.

    Both clips' cameras are arguments of their own, hence their number.

    A target pixel of depth z is lifted, moved into the source camera and projected to pixel q (pixel
    centres at +0.5). It is co-visible when the source's depth at q is within `tolerance` (relative) of the
    point's own, so that a point that the source sees something else in front of is not compared. That depth
    is bilinear in 1/depth, which is exact on planes, however grazing; all pixels that it uses must be
    known, and on one surface (depths within 25 %), so that no colour is mixed across a depth edge. Frames
    run one by one, to bound memory.
    """
    parts = [
        _back_warp_frame(
            video[t],
            depth[t],
            known[t],
            intrinsics[t],
            world_to_camera[t],
            target_depth[t],
            target_intrinsics[t],
            target_world_to_camera[t],
            tolerance,
        )
        for t in beating(range(len(target_depth)))
    ]
    return BackWarp(*(torch.stack(column) for column in zip(*parts)))


def project_points(
    depth: Tensor,  # [H, W]
    intrinsics: Tensor,  # [3, 3]
    world_to_camera: Tensor,  # [4, 4]
    other_intrinsics: Tensor,
    other_world_to_camera: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Project a depth map into another camera: u, v in pixels and z-depth there, each [H, W].

    Computed in float64; z <= 0 is behind the other camera.
    """
    height, width = depth.shape
    rows = torch.arange(height, dtype=torch.float64, device=depth.device) + 0.5
    columns = torch.arange(width, dtype=torch.float64, device=depth.device) + 0.5
    v, u = torch.meshgrid(rows, columns, indexing="ij")
    pixels = torch.stack([u, v, torch.ones_like(u)], -1)  # [H, W, 3]
    move = other_world_to_camera.double() @ torch.linalg.inv(world_to_camera.double())
    rays = pixels @ (move[:3, :3] @ torch.linalg.inv(intrinsics.double())).T
    points = rays * depth.double()[..., None] + move[:3, 3]
    image = points @ other_intrinsics.double().T
    z = image[..., 2]
    return image[..., 0] / z, image[..., 1] / z, z


def _back_warp_frame(
    video: Tensor,
    depth: Tensor,
    known: Tensor,
    intrinsics: Tensor,
    world_to_camera: Tensor,
    target_depth: Tensor,
    target_intrinsics: Tensor,
    target_world_to_camera: Tensor,
    tolerance: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return colour, co-visibility, depth ratio and coverage of one frame; arguments as in back_warp."""
    height, width = depth.shape
    usable = torch.isfinite(target_depth) & (target_depth > 0)
    safe_depth = torch.where(usable, target_depth, torch.ones_like(target_depth))
    u, v, z = project_points(
        safe_depth, target_intrinsics, target_world_to_camera, intrinsics, world_to_camera
    )
    usable = usable & (z > 0) & torch.isfinite(u) & torch.isfinite(v)
    u = torch.where(usable, u, torch.zeros_like(u)).clamp(-1e6, 1e6) - 0.5
    v = torch.where(usable, v, torch.zeros_like(v)).clamp(-1e6, 1e6) - 0.5
    known = known & torch.isfinite(depth) & (depth > 0)
    colour = video.new_zeros(3, *target_depth.shape)
    disparity, inside = torch.zeros_like(z), usable.clone()
    nearest, farthest = torch.zeros_like(z), torch.full_like(z, float("inf"))
    for right in (0, 1):
        for below in (0, 1):
            column, row = u.floor() + right, v.floor() + below
            weight = (1 - (u - column).abs()) * (1 - (v - row).abs())
            used = (
                weight > 1e-3
            )  # a neighbour that bilinear sampling ignores must not veto, as at the last column
            within = (column >= 0) & (column < width) & (row >= 0) & (row < height)
            x, y = column.clamp(0, width - 1).long(), row.clamp(0, height - 1).long()
            found = torch.where(known[y, x], 1 / depth[y, x].double(), torch.zeros_like(z))
            inside &= ~used | (within & known[y, x])
            disparity += weight * found
            nearest = torch.where(used, torch.maximum(nearest, found), nearest)
            farthest = torch.where(used, torch.minimum(farthest, found), farthest)
            colour += weight.to(video.dtype) * video[:, y, x]
    ratio = torch.where(inside, 1 / (disparity * z), torch.full_like(z, float("nan")))
    co_visible = inside & ((ratio - 1).abs() <= tolerance) & (nearest <= EDGE * farthest)
    return torch.where(co_visible, colour, torch.zeros_like(colour)), co_visible, ratio.float(), inside
