"""The unseen backs of bodies, taken to be as deep as the bodies are wide: what is behind a front is not bare.

Where a camera moves round a body, it sees a side that nobody filmed. Whatever else is known behind the body
must not be put there. A pixel of a body is as thick as the widest disc around it within the silhouette: so a
ball's unseen half is a cone, and a wall whose edges are out of sight ends nowhere.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from recapture.models.geometry.mesh import CameraPair
from recapture.models.geometry.rasterize import SurfaceSettings, nearest_surface

EDGE = 2  # times `break_ratio`: a pixel beside one that is so much farther is at a body's edge


def nearest_back(
    depth: Tensor,  # [T, h, w]
    known: Tensor,  # [T, h, w] bool
    cameras: CameraPair,
    surface: SurfaceSettings,
    size: tuple[int, int],
) -> Tensor:
    """Return the depth [T, H, W] at which the target cameras meet the back of a body, inf where none."""
    back = depth + thickness(depth, known, cameras.source_intrinsics, surface.break_ratio)
    settings = replace(surface, shell=0.0)
    return nearest_surface(back, *cameras, surface=settings, size=size, known=known)[0]


def thickness(depth: Tensor, known: Tensor, intrinsics: Tensor, break_ratio: float) -> Tensor:
    """Return how deep what each pixel shows is taken to be, [T, h, w] in scene units."""
    usable = known & torch.isfinite(depth) & (depth > 0)
    around = max_pool2d(torch.where(usable, depth, 0.0), 3, 1, 1)
    inner = ~(usable & (around > depth * (1 + EDGE * break_ratio)))
    inside = [cv2.distanceTransform(one, cv2.DIST_L2, 5) for one in inner.byte().cpu().numpy()]
    pixels = torch.stack([torch.from_numpy(one) for one in inside]).to(depth) + 0.5
    pixel = depth / intrinsics[:, 0, 0, None, None].to(depth)
    return 2 * pixels.clamp_max(max(depth.shape[1:])) * torch.where(usable, pixel, 0.0)
