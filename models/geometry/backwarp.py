"""Looking a target pixel up in the source: project its surface point there and sample, if seen there."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import grid_sample, pad

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
    v = torch.arange(height, dtype=torch.float64, device=depth.device)[:, None] + 0.5
    u = torch.arange(width, dtype=torch.float64, device=depth.device) + 0.5
    move = other_world_to_camera.double() @ torch.linalg.inv(world_to_camera.double())
    lens = other_intrinsics.double()
    rays = (lens @ move[:3, :3] @ torch.linalg.inv(intrinsics.double())).tolist()
    shift = (lens @ move[:3, 3]).tolist()
    far = depth.double()
    x, y, z = (
        ((a * u + c) + b * v).mul_(far).add_(moved) for (a, b, c), moved in zip(rays, shift)
    )  # no [H, W, 3] is made: memory is what takes time here
    return x.div_(z), y.div_(z), z


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
    u, v = (torch.where(usable, place, 0.0).clamp_(-1e6, 1e6).sub_(0.5) for place in (u, v))
    column, row = u.floor(), v.floor()
    # of four neighbours one at least is beyond the border, and counts
    usable &= (column >= -1) & (column < width) & (row >= -1) & (row < height)
    beside, below = (u - column).float(), (v - row).float()
    known = known & torch.isfinite(depth) & (depth > 0)
    disparities = pad(torch.where(known, 1 / depth.float(), 0.0), (1, 1, 1, 1)).flatten()  # 0: unknown
    place = (row.clamp_(-1, height - 1) * (width + 2) + column.clamp_(-1, width - 1)).long() + width + 3
    inside, disparity = usable, torch.zeros_like(beside)
    nearest, farthest = torch.zeros_like(beside), torch.full_like(beside, torch.inf)
    for right, weight_across in ((0, 1 - beside), (1, beside)):
        for down, weight_down in ((0, 1 - below), (1, below)):
            found = disparities.take(place + (right + down * (width + 2)))
            weight = weight_across * weight_down
            # a neighbour that bilinear sampling ignores must not veto, as at the last column
            used = weight > 1e-3
            inside = inside & (~used | (found > 0))
            disparity += weight * found
            nearest = torch.maximum(nearest, torch.where(used, found, 0.0))
            farthest = torch.minimum(farthest, torch.where(used, found, torch.inf))
    ratio = torch.where(inside, 1 / (disparity * z.float()), torch.nan)
    co_visible = inside & ((ratio - 1).abs() <= tolerance) & (nearest <= EDGE * farthest)
    grid = torch.stack([(2 * u + 1) / width - 1, (2 * v + 1) / height - 1], dim=-1).to(video.dtype)
    colour = grid_sample(video[None], grid[None], padding_mode="border", align_corners=False)[0]
    return torch.where(co_visible, colour, 0.0), co_visible, ratio, inside
