"""Draw coloured points on a camera's image: each covers its footprint, and the nearest surface wins."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

COVERS = 0.7  # of a point's distance to its neighbours: as far away it hides what is behind
BESIDE = 0.03  # relative depth: points this far behind the nearest one are of the same surface
ENOUGH = 0.5  # weight from which on a pixel is covered; within a surface weights add up to 1
UNITS = 1 << 14  # sums are of integers, so that their order does not matter


class Points(NamedTuple):
    """Points on the image."""

    u: Tensor  # [n] pixels, centres at +0.5
    v: Tensor  # [n]
    z: Tensor  # [n] depth
    extent: Tensor  # [n] >= 1, distance to neighbouring points in pixels
    colour: Tensor  # [n, 3] in [-1, 1]


class Splatted(NamedTuple):
    """What the points show."""

    video: Tensor  # [3, H, W] in [-1, 1], 0 where nothing
    visible: Tensor  # [H, W] bool
    depth: Tensor  # [H, W], inf where nothing


class _Touched(NamedTuple):
    """Pixels and the points that reach them."""

    pixel: Tensor  # [m] row by row
    point: Tensor  # [m] int64
    away: Tensor  # [m] the larger of both axes' distances, as a share of the point's extent
    weight: Tensor  # [m]


def splat(points: Points, size: tuple[int, int]) -> Splatted:
    """Return what the points show on an image of size (H, W).

    A point weighs 1 at its place and falls off linearly to 0 at its extent, along both axes. A pixel shows
    the weighted mean of the points on the nearest surface. The same points in any order give the same bytes.
    """
    height, width = size
    touched = list(_touched(points, height, width))
    nearest = points.z.new_full((height * width,), torch.inf)
    for one in touched:
        close = one.away <= COVERS
        nearest.scatter_reduce_(0, one.pixel[close], points.z[one.point[close]], "amin")
    sums = torch.zeros(height * width, 5, dtype=torch.int64, device=nearest.device)
    for one in touched:
        front = nearest[one.pixel]
        at = (points.z[one.point] <= front * (1 + BESIDE)).nonzero()[:, 0]
        point, weight = one.point[at], one.weight[at, None]
        values = torch.cat([points.colour[point], (points.z[point] / front[at])[:, None]], 1)
        found = torch.cat([values * weight, weight], 1)
        sums.index_add_(0, one.pixel[at], (found * UNITS).round().long())
    total = sums[:, 4]
    visible = total >= ENOUGH * UNITS
    mean = sums[:, :4].float() / total.clamp_min(1)[:, None]
    video = torch.where(visible[:, None], mean[:, :3], 0.0).T.reshape(3, height, width)
    depth = torch.where(visible, mean[:, 3] * nearest, torch.inf)
    return Splatted(video.contiguous(), visible.view(height, width), depth.view(height, width))


def _touched(points: Points, height: int, width: int) -> Iterator[_Touched]:
    """Yield the pixels that points reach, each pair of them once; points of like extents together."""
    reach = points.extent.ceil()
    for one in reach.unique().long().tolist():
        chosen = (reach == one).nonzero()[:, 0]
        u, v, extent = points.u[chosen], points.v[chosen], points.extent[chosen]
        column, row = (u - 0.5).floor(), (v - 0.5).floor()
        for below in range(1 - one, one + 1):
            for right in range(1 - one, one + 1):
                x, y = column + right, row + below
                across, down = (x + 0.5 - u).abs() / extent, (y + 0.5 - v).abs() / extent
                inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
                at = (inside & (across < 1) & (down < 1)).nonzero()[:, 0]
                across, down = across[at], down[at]
                weight = (1 - across) * (1 - down) / extent[at].square()
                pixel = y[at].long() * width + x[at].long()
                yield _Touched(pixel, chosen[at], torch.maximum(across, down), weight)
