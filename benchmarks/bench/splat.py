"""A point-splat renderer for comparison: soft z-weights over bilinear footprints, as in public warpers."""

from __future__ import annotations

import torch
from torch import Tensor

from recapture.models.geometry.cameras import project_points
from recapture.models.geometry.rasterize import Rendered


def splat(
    video: Tensor,  # [T, 3, h, w]
    depth: Tensor,  # [T, h, w]
    source_intrinsics: Tensor,
    source_world_to_camera: Tensor,
    target_intrinsics: Tensor,
    target_world_to_camera: Tensor,
    *,
    known: Tensor | None = None,
) -> Rendered:
    """Scatter every source pixel to its four nearest target pixels, weighted by bilinear share and nearness.

    A target pixel is known when anything reached it. Points behind the camera are left out.
    """
    frames, channels, height, width = video.shape
    u = torch.arange(width) + 0.5
    v = torch.arange(height)[:, None] + 0.5
    known = torch.isfinite(depth) & (depth > 0) if known is None else known
    z = torch.where(known, depth, torch.ones_like(depth))
    points = torch.stack([u * z, v * z, z], dim=-1).flatten(1, 2).double()
    cameras = (source_intrinsics, source_world_to_camera, target_intrinsics, target_world_to_camera)
    target = project_points(points, *(camera.double() for camera in cameras))
    reach = target[..., 2]
    keep = known.flatten(1) & (reach > 1e-3)
    x, y = (target[..., i] / torch.where(keep, reach, torch.ones_like(reach)) - 0.5 for i in (0, 1))
    nearness = torch.log1p(reach.clamp(0, 1000))
    nearness = torch.exp(-50 * nearness / nearness.amax(1, keepdim=True))
    total = torch.zeros(frames, height * width, dtype=torch.float64)
    colour = torch.zeros(frames, channels, height * width, dtype=torch.float64)
    depths = torch.zeros_like(total)
    for dx in (0, 1):
        for dy in (0, 1):
            column, row = x.floor() + dx, y.floor() + dy
            share = (1 - (x - column).abs()).clamp_min(0) * (1 - (y - row).abs()).clamp_min(0)
            inside = keep & (column >= 0) & (column < width) & (row >= 0) & (row < height)
            weight = torch.where(inside, share * nearness, torch.zeros_like(share))
            pixel = torch.where(inside, row * width + column, torch.zeros_like(row)).long()
            total.scatter_add_(1, pixel, weight)
            depths.scatter_add_(1, pixel, weight * torch.where(inside, reach, torch.zeros_like(reach)))
            for c in range(channels):
                colour[:, c].scatter_add_(1, pixel, weight * video[:, c].flatten(1).double())
    visible = total > 0
    scale = torch.where(visible, total, torch.ones_like(total))
    shape = (frames, height, width)
    return Rendered(
        torch.where(visible[:, None], colour / scale[:, None], 0.0)
        .view(frames, channels, height, width)
        .float(),
        visible.view(shape),
        torch.where(visible, depths / scale, torch.inf).view(shape).float(),
        torch.ones(shape),
    )
