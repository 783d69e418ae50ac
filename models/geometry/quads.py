"""Projected quads, both triangles at once: their bounds, areas, and depth at points."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from recapture.models.geometry.z_buffer import SLACK

OUTSIDE = 1e15  # added to the depth of a point that is this far outside, times 1e15


class Corners(NamedTuple):
    """A coordinate of quads' corners, clockwise from the top left, each [n]."""

    a: Tensor
    b: Tensor
    c: Tensor
    d: Tensor

    @classmethod
    def of(cls, grid: Tensor, start: int, stop: int, width: int) -> Corners:
        """Return those of the quads `start` to `stop` of a grid [h * width], without a copy."""
        shifts = (0, 1, width + 1, width)
        return cls(*(grid[start + shift : stop + shift] for shift in shifts))

    def picked(self, which: Tensor) -> Corners:
        """Return those of some quads."""
        return Corners(*(corner.index_select(0, which) for corner in self))

    def bounds(self, side: int) -> tuple[Tensor, Tensor]:
        """Return the first and the last pixel centre between the corners, as floats."""
        a, b, c, d = self
        low = torch.minimum(torch.minimum(a, b), torch.minimum(c, d)).sub_(0.5 + SLACK)
        high = torch.maximum(torch.maximum(a, b), torch.maximum(c, d)).sub_(0.5 - SLACK)
        return low.ceil_().clamp_(0, side), high.floor_().clamp_(-1, side - 1)


class ProjectedQuads(NamedTuple):
    """Projected quads: pixels and 1/depth."""

    x: Corners
    y: Corners
    w: Corners

    def picked(self, which: Tensor) -> ProjectedQuads:
        """Return some of the quads."""
        return ProjectedQuads(*(corners.picked(which) for corners in self))

    def areas(self) -> tuple[Tensor, Tensor]:
        """Return twice the areas [n] of the triangles a b d and b c d; negative for backs."""
        x, y = self.x, self.y
        first = _cross(x.b - x.a, y.b - y.a, x.d - x.a, y.d - y.a)
        return first, _cross(x.c - x.b, y.c - y.b, x.d - x.b, y.d - y.b)


def depth_at(
    quads: ProjectedQuads, areas: tuple[Tensor, Tensor], u: Tensor, v: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the depth of quads at points [n], and whether the second triangle is nearest there [n] bool.

    The depth is above OUTSIDE where a point is more than SLACK outside both triangles.
    """
    (xa, ya, wa), (xb, yb, wb), (xc, yc, wc), (xd, yd, wd) = zip(*quads)
    along, down, diagonal = (xb - xa, yb - ya), (xd - xa, yd - ya), (xd - xb, yd - yb)
    right, back = (xc - xb, yc - yb), (xd - xc, yd - yc)
    from_a, from_b, from_d = (u - xa, v - ya), (u - xb, v - yb), (u - xd, v - yd)
    faced, split = [torch.sign(area) for area in areas], _cross(*diagonal, *from_b)
    width = _slack(diagonal)
    first = torch.minimum(_within(along, from_a, faced[0]), _within(down, from_a, -faced[0]))
    first = torch.minimum(first, torch.addcmul(width, faced[0], split), out=first)
    second = torch.minimum(_within(right, from_b, faced[1]), _within(back, from_d, faced[1]))
    second = torch.minimum(second, width.addcmul_(faced[1], split, value=-1), out=second)
    lower, higher = torch.minimum(wb, wd), torch.maximum(wb, wd)
    near = _plane(wa, wb - wa, wd - wa, along, down, areas[0], from_a)
    near = _limited(near, torch.minimum(lower, wa), torch.maximum(higher, wa)).reciprocal_()
    far = _plane(wb, wc - wb, wd - wb, right, diagonal, areas[1], from_b)
    far = _limited(far, torch.minimum(lower, wc), torch.maximum(higher, wc)).reciprocal_()
    # in place of torch.where, which takes six times as long
    near.add_(first.clamp_max_(0.0), alpha=-OUTSIDE * OUTSIDE)
    far.add_(second.clamp_max_(0.0), alpha=-OUTSIDE * OUTSIDE)
    nearer = torch.from_numpy(far.numpy() < near.numpy())
    return torch.minimum(near, far), nearer


_Vector = tuple[Tensor, Tensor]


def _cross(x1: Tensor, y1: Tensor, x2: Tensor, y2: Tensor) -> Tensor:
    return (x1 * y2).addcmul_(x2, y1, value=-1)


def _slack(side: _Vector) -> Tensor:
    """Return SLACK times the length of sides."""
    return (side[0] * side[0]).addcmul_(side[1], side[1]).sqrt_().mul_(SLACK)


def _within(side: _Vector, point: _Vector, faced: Tensor) -> Tensor:
    """Return how far points are right of sides (left: faced -1), plus SLACK, times the sides' lengths."""
    return _slack(side).addcmul_(faced, _cross(*side, *point))


def _plane(
    w: Tensor, w1: Tensor, w2: Tensor, one: _Vector, two: _Vector, area: Tensor, point: _Vector
) -> Tensor:
    """Return 1/depth at points: it is w at a corner, and w + w1, w + w2 at the ends of two sides."""
    w1, w2 = w1.div_(area), w2.div_(area)
    found = torch.addcmul(w, _cross(w1, one[1], w2, two[1]), point[0])
    return found.addcmul_(_cross(one[0], w1, two[0], w2), point[1])


def _limited(values: Tensor, low: Tensor, high: Tensor) -> Tensor:
    return torch.minimum(torch.maximum(values, low, out=values), high, out=values)
