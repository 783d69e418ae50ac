"""Double reprojection: which source pixels survive the way to a target view and back.

Training pairs for filling holes (EasyCreator, "double reprojection"; GEN3C and CogNVS warp twice). Warping
twice resamples the colours twice and marks wrong pixels as known; here the source's own pixels are kept
wherever the target view sees their surface point, decided by one z-buffer, so the supervision is exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from recapture.models.geometry.cameras import project_points
from recapture.models.geometry.rasterize import SurfaceSettings, nearest_surface

TOLERANCE = 0.01  # share of its depth by which a source pixel may be behind the rendered surface


@dataclass(frozen=True)
class Reprojected:
    """A training pair: the source as it would come back from the target view, and the source itself."""

    degraded: Tensor  # [T, 3, h, w] in [-1, 1], the source's pixels, 0 (grey) in holes
    visible: Tensor  # [T, h, w] bool, True where the target view sees the source's surface
    clean: Tensor  # [T, 3, h, w] in [-1, 1], the source


def double_reprojection(
    video: Tensor,  # [T, 3, h, w] in [-1, 1]
    depth: Tensor,  # [T, h, w] z-depth in scene units
    source_intrinsics: Tensor,  # [T, 3, 3] pixels
    source_world_to_camera: Tensor,  # [T, 4, 4]
    target_intrinsics: Tensor,  # [T, 3, 3] pixels
    target_world_to_camera: Tensor,  # [T, 4, 4]
    *,
    surface: SurfaceSettings,
    known: Tensor | None = None,  # [T, h, w] bool, source pixels that may be lifted
) -> Reprojected:
    """Return source -> target view -> source, with holes where the target view does not see the source.

    The arguments are those of `source_visibility`.
    """
    cameras = (source_intrinsics, source_world_to_camera, target_intrinsics, target_world_to_camera)
    visible = source_visibility(depth, *cameras, surface=surface, known=known)
    return Reprojected(torch.where(visible[:, None], video, 0.0), visible, video)


def source_visibility(
    depth: Tensor,  # [T, h, w] z-depth in scene units
    source_intrinsics: Tensor,  # [T, 3, 3] pixels
    source_world_to_camera: Tensor,  # [T, 4, 4]
    target_intrinsics: Tensor,  # [T, 3, 3] pixels
    target_world_to_camera: Tensor,  # [T, 4, 4]
    *,
    surface: SurfaceSettings,
    size: tuple[int, int] | None = None,
    known: Tensor | None = None,  # [T, h, w] bool, source pixels that may be lifted
) -> Tensor:
    """Return [T,h,w] bool: True where the target view sees the surface point at the source pixel's centre.

    The source is rendered into the target view (size (H, W), by default the source's). A source pixel is
    visible where its surface point falls inside the target's image, is no further than the rendered surface
    there, up to TOLERANCE as a share of its depth, and is not stretched beyond `surface.max_stretch` there.
    Pixels that are not `known`, or have no finite positive depth, are not visible.
    """
    frames, height, width = depth.shape
    cameras = (source_intrinsics, source_world_to_camera, target_intrinsics, target_world_to_camera)
    known = torch.ones_like(depth, dtype=torch.bool) if known is None else known
    known = known & torch.isfinite(depth) & (depth > 0)
    nearest, stretch = nearest_surface(depth, *cameras, surface=surface, size=size, known=known)
    z = torch.where(known, depth, 1.0).double()
    u = torch.arange(width, device=z.device) + 0.5
    v = torch.arange(height, device=z.device)[:, None] + 0.5
    points = torch.stack([u * z, v * z, z], dim=-1).flatten(1, 2)
    target = project_points(points, *(camera.double() for camera in cameras))
    ahead = target[..., 2] > 0
    reach = torch.where(ahead, target[..., 2], 1.0)
    x, y = target[..., 0] / reach, target[..., 1] / reach
    rows, columns = nearest.shape[1:]
    inside = ahead & (x >= 0) & (x < columns) & (y >= 0) & (y < rows)
    x, y = torch.where(inside, x, 0.5), torch.where(inside, y, 0.5)
    seen = inside & _unoccluded(nearest, x, y, reach)
    if surface.max_stretch is not None:
        pixel = y.long().clamp(0, rows - 1) * columns + x.long().clamp(0, columns - 1)
        seen &= stretch.flatten(1).gather(1, pixel) <= surface.max_stretch
    return seen.view(frames, height, width) & known


def _unoccluded(
    nearest: Tensor,  # [T, H, W] depth in the target view, inf where nothing is
    x: Tensor,  # [T, N] pixels
    y: Tensor,  # [T, N] pixels
    reach: Tensor,  # [T, N] depth of the points
) -> Tensor:
    """Return [T,N]: the points are no further than the surface at their place.

    A plane's inverse depth is affine in the image, so it is continued from the pixel that the point falls in
    by the gentler of its slopes to the neighbours, which is the slope within a surface. Where no surface
    covers that pixel's centre (in a torn quad), one of the neighbours must show the point's surface.
    """
    rows, columns = nearest.shape[1:]
    nearness = (1.0 / nearest.double()).flatten(1)
    column, row = x.long().clamp(0, columns - 1), y.long().clamp(0, rows - 1)
    pixel = row * columns + column
    here = nearness.gather(1, pixel)
    expected, beside = here, torch.zeros_like(here, dtype=torch.bool)
    for offset, index, side, stride in (
        (x - column - 0.5, column, columns, 1),
        (y - row - 0.5, row, rows, columns),
    ):
        after = nearness.gather(1, torch.where(index + 1 < side, pixel + stride, pixel))
        before = nearness.gather(1, torch.where(index > 0, pixel - stride, pixel))
        rise, fall = after - here, here - before
        rise, fall = torch.where(index + 1 < side, rise, fall), torch.where(index > 0, fall, rise)
        expected = expected + torch.where(rise.abs() <= fall.abs(), rise, fall) * offset
        for neighbour in (before, after):
            beside |= (neighbour * reach - 1).abs() <= TOLERANCE
    return torch.where(here > 0, expected * reach <= 1 + TOLERANCE, beside)
